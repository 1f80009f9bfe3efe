"""`metaevents leaderboard` and `metaevents validate`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from support.made_entries import change, write_entry

from metaevents.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem, accuracy in (("one", 0.9), ("two", 0.8)):
        write_entry(tmp_path / "cards" / "entries", stem, accuracy)
    return tmp_path


def leaderboard(*arguments: str | Path) -> int:
    return main(["leaderboard", *map(str, arguments)])


def test_markdown_is_written_beside_the_entries_and_the_page_into_the_given_folder(
    folder: Path,
) -> None:
    assert leaderboard("--entries", folder / "cards" / "entries", "--html", folder / "site") == 0
    assert "| 1 |" in (folder / "cards" / "LEADERBOARD.md").read_text("utf-8")
    assert (folder / "site" / "index.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_entries_of_the_working_folder_are_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert leaderboard() == 0
    assert (folder / "cards" / "LEADERBOARD.md").is_file()


def test_equal_entries_give_equal_bytes(folder: Path) -> None:
    digests = set()
    for place in ("a", "b"):
        out = folder / place
        assert (
            leaderboard(
                "--entries", folder / "cards/entries", "--html", out, "--markdown", out / "board.md"
            )
            == 0
        )
        digests.add(
            tuple(
                hashlib.sha256((out / name).read_bytes()).hexdigest()
                for name in ("index.html", "board.md")
            )
        )
    assert len(digests) == 1


def test_check_passes_on_what_was_written_and_fails_on_any_difference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--entries", folder / "cards/entries", "--html", folder / "site")
    assert leaderboard(*where) == 0
    assert leaderboard(*where, "--check") == 0
    page = folder / "site" / "index.html"
    written = page.read_text("utf-8")
    page.write_text(written.replace("Leaderboard", "Best methods"), "utf-8")
    capsys.readouterr()
    assert leaderboard(*where, "--check") == 2
    said = capsys.readouterr().err
    assert "index.html" in said
    assert "LEADERBOARD.md" not in said
    assert said.count("\n") == 1
    assert page.read_text("utf-8") != written, "--check writes nothing"
    write_entry(folder / "cards" / "entries", "three", 0.95)
    assert leaderboard(*where, "--check") == 2
    assert leaderboard(*where) == 0
    assert leaderboard(*where, "--check") == 0


def test_check_fails_where_nothing_was_written(folder: Path) -> None:
    assert leaderboard("--entries", folder / "cards/entries", "--check") == 2
    assert not (folder / "cards" / "LEADERBOARD.md").exists()


def test_the_command_refuses_simulated_and_broken_entries(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dream = write_entry(folder / "cards" / "entries", "dream", source="simulated")
    assert leaderboard("--entries", folder / "cards/entries") == 2
    assert "simulated" in capsys.readouterr().err
    dream.write_text("{}")
    assert leaderboard("--entries", folder / "cards/entries") == 2
    said = capsys.readouterr().err
    assert "dream.json" in said
    assert said.count("\n") == 1


def test_the_command_gives_its_tables_as_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leaderboard("--entries", folder / "cards/entries", "--json") == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = [(row["entry"], row["rank"], row["against_best"]) for row in table["rows"]]
    assert rows == [("one", 1, "best"), ("two", 2, "behind")]


def test_validate_prints_what_it_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "cards" / "entries" / "one.json"
    assert main(["validate", str(path)]) == 0
    said = capsys.readouterr().out
    assert "ok  form" in said
    assert "not recomputed" in said
    assert main(["validate", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is True
    assert answer["simulated"] is False
    assert answer["verified"] is None


def test_validate_refuses_in_one_line_or_in_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = change(folder / "cards" / "entries" / "one.json", "method", "name", to=None)
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "method.name is null" in said.err
    assert main(["validate", str(path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert "method.name is null" in answer["problem"]


def test_validate_says_that_a_simulated_entry_never_enters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_entry(tmp_path, "dream", source="simulated")
    assert main(["validate", str(path)]) == 0
    assert "never enters the leaderboard" in capsys.readouterr().out


def test_the_table_replaces_no_entry(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = folder / "cards" / "entries"
    before = {path: path.read_bytes() for path in entries.iterdir() if path.is_file()}
    for path in before:
        assert leaderboard("--entries", entries, "--markdown", path) == 2
        assert "is read by this command" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in entries.iterdir() if path.is_file()}


def test_no_table_is_written_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert leaderboard() == 2
    assert "no folder cards/entries here" in capsys.readouterr().err
