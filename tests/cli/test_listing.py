"""The command `list`."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from support.command_line import all_options, error_line

from baselines.learners import SHIPPED
from metaevents.benchmark.protocols import names
from metaevents.benchmark.trivial import TITLES, TRIVIAL_BASELINES
from metaevents.cli import main
from metaevents.specs import specs


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["list", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_lists_datasets_protocols_and_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys)
    assert [row["name"] for row in rows["datasets"]] == list(specs())
    assert [row["name"] for row in rows["protocols"]] == list(names())
    trivial = [row["name"] for row in rows["baselines"] if row["kind"] == "trivial"]
    assert trivial == [f"floor:{name}" for name in TRIVIAL_BASELINES]
    assert list(TITLES) == list(TRIVIAL_BASELINES)
    trained = [row for row in rows["baselines"] if row["kind"] == "trained"]
    assert len(trained) == len(list(SHIPPED.glob("*.safetensors")))
    (nmnist,) = (row for row in rows["datasets"] if row["name"] == "double-nmnist")
    assert nmnist["classes"]["published"] == {"train": 64, "val": 16, "test": 20}
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for kind in ("datasets", "protocols", "baselines"):
        assert f"{kind}:\n" in text
        for row in rows[kind]:
            assert f"  {row['name']} " in text


def test_one_kind_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(listed(capsys, "protocols")) == ["protocols"]
    line = error_line(capsys, "list", "weights")
    assert "invalid choice: 'weights'" in line
    assert line.endswith("see `metaevents list --help`\n")


def test_the_commands_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        (program.__module__, command, option)
        for program, command, action in all_options()
        for option in action.option_strings
    }
    for row in listed(capsys, "baselines")["baselines"]:
        words = shlex.split(row["run"])
        program, rest = words[0], words[1:]
        if rest[0] == "baselines":
            program, rest = "baselines", rest[1:]
        module = "baselines.cli" if program == "baselines" else "metaevents.cli"
        for word in rest:
            if word.startswith("--"):
                assert (module, rest[0], word) in options
