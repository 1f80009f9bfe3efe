"""The script for a GPU: outcomes of groups of tests, and the part of the card made from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from gpu import card, checks

TESTS = {
    "test_good.py": "def test_one(): pass\ndef test_two(): pass\n",
    "test_mixed.py": (
        "import pytest\n"
        "def test_bad(): assert False, 'this one fails'\n"
        "def test_skipped(): pytest.skip('no reason')\n"
        "def test_good(): pass\n"
    ),
    "test_killed.py": "import os\ndef test_killed(): os._exit(9)\n",
    "test_broken.py": "import a_module_that_does_not_exist\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([["test_good.py"], ["test_good.py", "-k", "one"]], (3, 0, 0)),
        ([["test_good.py"], ["test_mixed.py"]], (3, 1, 1)),
        ([["test_good.py"], ["test_killed.py"]], (2, 1, 0)),
        ([["test_good.py"], ["test_broken.py"]], (2, 1, 0)),
        ([["test_good.py", "-k", "no_such_test"]], (0, 1, 0)),
    ],
)
def test_every_test_that_did_not_pass_is_counted(
    groups: list[list[str]],
    expected: tuple[int, int, int],
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a plugin may import torch
    found = checks.run(groups, folder)
    assert (found["passed"], found["failed"], found["skipped"]) == expected
    assert found["seconds"] > 0
    said = capfd.readouterr().out
    assert ("this one fails" in said) == ("test_mixed.py" in groups[-1])


def test_every_group_names_tests_that_exist() -> None:
    for group in checks.GROUPS:
        for argument in group:
            if argument.endswith(".py"):
                assert (checks.ROOT / argument).is_file()


def test_the_card_says_what_the_tests_and_the_script_took() -> None:
    results = {
        "tests": {"passed": 12, "failed": 0, "skipped": 1, "seconds": 30.2},
        "seconds": {"steps": 20.0, "episodes": 5.0},
    }
    last = card.part(results).splitlines()[-1]
    assert last == ("12 tests for a GPU passed. The script took 55 s, 30 of them for the tests.")


def test_the_card_is_not_made_where_tests_failed() -> None:
    with pytest.raises(SystemExit, match="2 tests failed"):
        card.part({"tests": {"passed": 1, "failed": 2, "skipped": 0, "seconds": 1.0}})
