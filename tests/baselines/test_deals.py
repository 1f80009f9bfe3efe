"""Baselines over the deals: what exists is taken up, and the table says what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import error_line

from baselines import deals
from baselines.cli import main
from baselines.deals import METHODS, Method, Setting, run_config
from baselines.weights_file import read_weights
from metaevents.errors import UsageError

_SMALL: dict[str, Any] = {
    "channels": (4, 4, 8), "norm_groups": 0, "time_stride": 10, "burn_in": 50, "val_every": 2,
    "val_episodes": 2, "queries": 2, "batch_size": 4, "match_turn": 0.0, "match_scale": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


def setting(archive: Path, out: Path, **changes: Any) -> Setting:
    return Setting(archive, out, **{"steps": 3, "episodes": 3, "changes": _SMALL, **changes})


@pytest.fixture(scope="module")
def made(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deals")
    deals.run(
        setting(archive, out),
        ["floor:nearest-neighbour", "cnn-components:own", "cnn-components"],
        [1, 3],
    )
    return out


def test_every_method_and_deal_has_a_row_and_the_table_shows_them(made: Path) -> None:
    document = json.loads((made / "deals.json").read_text("utf-8"))
    found = {(row["method"], row["deal"]) for row in document["rows"]}
    names = ("floor:nearest-neighbour", "cnn-components:own", "cnn-components")
    assert found == {(name, deal) for name in names for deal in (1, 3)}
    for each in document["methods"]:
        accuracies = [r["accuracy"] for r in document["rows"] if r["method"] == each["method"]]
        assert each["mean"] == pytest.approx(sum(accuracies) / 2)
        deviation = abs(accuracies[0] - accuracies[1]) / 2**0.5
        assert each["deviation"] == pytest.approx(deviation)
    lines = (made / "deals.md").read_text("utf-8").splitlines()
    header = next(line for line in lines if line.startswith("| Method"))
    assert [cell.strip() for cell in header.split("|")[-3:-1]] == ["Deal 1", "Deal 3"]
    order = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    assert order == ["Nearest neighbor, time-summed", "CNN-COMPONENTS (own)", "CNN-COMPONENTS"]


def test_methods_with_the_same_weights_are_trained_once(made: Path) -> None:
    folders = sorted(path.name for path in (made / "runs").iterdir())
    assert folders == [
        "cnn-components.best.3steps.novel-components",
        "cnn-components.best.3steps.novel-components-3",
    ]
    config = read_weights(made / "runs" / folders[1] / "best.safetensors").config
    assert (config.classes, config.steps, config.recipe) == ("novel-components-3", 3, "best")


def test_what_exists_is_taken_up(
    made: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deals, "_work", lambda *_: pytest.fail("a result was measured again"))
    before = (made / "deals.json").read_text("utf-8")
    deals.run(setting(archive, made), ["cnn-components"], [3])
    assert (made / "deals.json").read_text("utf-8") == before


def test_several_processes_give_the_same_rows(made: Path, archive: Path, tmp_path: Path) -> None:
    deals.run(setting(archive, tmp_path), ["floor:nearest-neighbour"], [1, 3], jobs=2)
    for path in (tmp_path / "rows").iterdir():
        assert path.read_text("utf-8") == (made / "rows" / path.name).read_text("utf-8")
    assert len(list((tmp_path / "rows").iterdir())) == 2


@pytest.mark.parametrize("method", ["snn-maml", "cnn-fomaml", "cnn-transfer", "snn-components"])
@pytest.mark.parametrize("steps", [1, 100, 2000])
def test_every_model_takes_the_same_number_of_steps(
    method: str, steps: int, archive: Path, tmp_path: Path
) -> None:
    config = run_config(setting(archive, tmp_path, steps=steps), Method.of(method), 2)
    assert config.steps + config.pretrain_steps == steps
    assert 1 <= config.val_every <= config.steps
    assert config.classes == "novel-components-2"


def test_all_methods_of_the_table_exist() -> None:
    assert [Method.of(name).name for name in METHODS] == list(METHODS)


@pytest.mark.parametrize("name", ["floor:nothing", "cnn-nothing", "cnn-maml:own", "", "floor:"])
def test_an_unknown_method_is_refused(name: str, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no method"):
        deals.run(setting(archive, tmp_path), [name], [1])


def test_results_of_another_setting_are_not_mixed(made: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    for number, path in enumerate(sorted((made / "rows").iterdir())[:2]):
        row = json.loads(path.read_text("utf-8"))
        row["episodes"] += number
        (rows / path.name).write_text(json.dumps(row), "utf-8")
    with pytest.raises(UsageError, match="results of 2 settings"):
        deals.write_tables(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"episodes": 4}, "has episodes 3, this command 4"),
        ({"pairing": "published"}, "has pairing all, this command published"),
        ({"protocol": "sample-5way-5shot"}, "has protocol sample-5way-1shot"),
    ],
)
def test_results_of_another_setting_are_not_taken_up(
    changes: dict[str, Any], reason: str, made: Path, archive: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        deals.run(setting(archive, made, **changes), ["floor:nearest-neighbour"], [1])


def test_results_of_another_archive_are_not_taken_up(made: Path, simulated_root: Path) -> None:
    with pytest.raises(UsageError, match="has fingerprint"):
        deals.run(setting(simulated_root / "double-nmnist.h5", made), ["floor:chance"], [1])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "metaevents-deals"}'])
def test_a_damaged_row_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "one.json").write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"one\.json holds no result of a deal"):
        deals.write_tables(tmp_path)


def test_the_command_runs_and_refuses_an_unknown_deal(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deals", "--archive", archive, "--out", tmp_path, "--models",
             "floor:nearest-neighbour", "--episodes", 2, "--deals"]  # fmt: skip
    assert main([*map(str, words), "2"]) == 0
    assert "| Nearest neighbor, time-summed |" in capsys.readouterr().out
    assert "has no deal 11" in error_line(capsys, *words, 11, program=main)
