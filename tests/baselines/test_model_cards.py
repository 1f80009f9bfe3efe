"""The weights that ship and their cards: published runs, and cards that say what weights and entries say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import baselines.learners
import baselines.model_cards
import baselines.publish
import metaevents as me
from baselines.cli import main
from baselines.config import recipe
from baselines.learners import SHIPPED, load
from baselines.model_cards import check, write
from baselines.publish import publish
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingRun
from baselines.weights_file import read_weights
from metaevents.benchmark.validation import read_entry, validate
from metaevents.errors import UsageError

CARDS = Path(__file__).parents[2] / "cards"
PROTOCOL = ("--protocol", "sample-5way-1shot", "--episodes", "3", "--queries", "2")
SMALL: dict[str, Any] = {
    "channels": (4, 4, 8), "steps": 4, "val_every": 2, "val_episodes": 3, "queries": 3, "pretrain_steps": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


@pytest.fixture(scope="module")
def runs(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings of one method."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        TrainingRun(
            recipe("cnn-maml", "paper", seed=seed, **SMALL),
            archive,
            folder / str(seed),
            progress=False,
        ).run()
    return [folder / "0", folder / "1"]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for the weights that ship."""
    place = tmp_path / "weights"
    for module in (baselines.model_cards, baselines.publish, baselines.learners):
        monkeypatch.setattr(module, "SHIPPED", place)
    return place


def test_published_weights_carry_the_whole_learning_curve_and_load_by_name(
    runs: list[Path], shipped: Path
) -> None:
    path = publish(runs[0], folder=shipped)
    assert path.name == "cnn-maml.paper.double-nmnist.published.5way.safetensors"
    assert list(read_weights(path).record.curve) == learning_curve(runs[0])
    learner = load("cnn-maml", recipe="paper")
    assert learner.record.step == read_weights(runs[0] / "best.safetensors").record.step


def test_transfer_ships_for_any_number_of_ways() -> None:
    assert load("cnn-transfer", ways=20).config == load("cnn-transfer").config


def test_inner_steps_at_test_are_chosen_on_validation_episodes(
    runs: list[Path], archive: Path, simulated_root: Path, tmp_path: Path
) -> None:
    weights = read_weights(publish(runs[0], archive, tmp_path))
    measured = weights.record.measured or {}
    found = {steps: measured[f"val_accuracy_{steps}_steps"] for steps in (1, 3, 5)}
    assert found[weights.config.test_steps] == max(found.values())
    assert load(
        tmp_path / f"{weights.config.model}.paper.double-nmnist.published.5way.safetensors"
    ).model.config.test_steps
    # One step is what the run itself validated with, on the same episodes.
    assert found[1] == pytest.approx(measured["val_accuracy"])
    other = tmp_path / "other"
    TrainingRun(recipe("cnn-maml", "paper", **SMALL), simulated_root, other, progress=False).run()
    with pytest.raises(UsageError, match="chosen on other recordings"):
        publish(other, archive, tmp_path)


def test_cards_say_what_weights_and_entries_say(
    runs: list[Path], shipped: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(runs[0], folder=shipped)
    cards = tmp_path / "cards"
    (cards / "entries").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(archive, tmp_path / "a.h5")
    out = ("--out", "cards/entries/m.json", "--predictions", "cards/entries/m.npz")
    options = ["--recipe", "paper", "--archive", "a.h5", "--protocol", "sample-5way-1shot"]
    assert main(["evaluate", "cnn-maml", *options, *out]) == 0
    entry = read_entry(cards / "entries" / "m.json")
    assert entry.report["learner"] == "baselines:cnn-maml"
    assert validate(cards / "entries" / "m.json", "a.h5").entry.name == "CNN-MAML (paper)"
    card, results = write(cards)
    text = card.read_text("utf-8")
    assert f"{100 * entry.accuracy:.1f} ±" in text
    assert f"{100 * entry.accuracy:.1f} ±" in results.read_text("utf-8")
    for line in learning_curve(runs[0]):
        assert f"| {line['step']:,} | {line['loss']:.3f} |" in text
    assert check(cards) == [card, results]
    card.write_text(text.replace("cnn-maml", "cnn-mamba"), "utf-8")
    with pytest.raises(UsageError, match="not what weights and entries give"):
        check(cards)


def test_several_trainings_of_a_method_make_one_entry(
    runs: list[Path], archive: Path, tmp_path: Path
) -> None:
    paths = [str(run) for run in runs]
    out = ("--out", str(tmp_path / "e.json"))
    assert (
        main(["evaluate", *paths, "--archive", str(archive), *PROTOCOL, *out, "--name", "Mine"])
        == 0
    )
    entry = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert entry["report"]["training_seeds"]["seeds"] == 2
    assert entry["method"]["name"] == "Mine"
    assert "seed 0, 1" in entry["method"]["notes"]
    assert entry["method"]["command"].startswith("python -m baselines evaluate ")


def test_a_seen_test_is_refused_in_one_line_and_marked_when_forced(
    runs: list[Path], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        str(runs[0]),
        "--archive",
        str(archive),
        *PROTOCOL,
        "--classes",
        "novel-components",
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "were trained on" in error
    assert main([*words, "--force", "--out", str(tmp_path / "e.json")]) == 0
    assert (
        "were trained on"
        in json.loads((tmp_path / "e.json").read_text("utf-8"))["report"]["overlap"]
    )


# --- what ships in this repository -----------------------------------------------------------------------------------------


def test_the_repositorys_cards_are_those_of_its_weights_and_entries() -> None:
    assert check(CARDS)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_weights_load_and_have_seen_nothing_of_the_test(
    path: Path, sample_root: Path
) -> None:
    weights = read_weights(path)
    learner = load(path)
    assert path.stat().st_size < 1.5e6
    assert not weights.record.simulated
    test = me.load(weights.config.dataset, sample_root, "test", classes=weights.config.classes)
    assert test.fingerprint == weights.record.fingerprint
    assert learner.overlap(test) is None
    ways = weights.config.ways
    hits = [
        (learner.adapt(e.support_x, e.support_y, ways)(e.query_x).argmax(-1) == e.query_y)
        .float()
        .mean()
        for e in me.EpisodeLoader(
            test, ways, 1, 5, episodes=3, representation=learner.representation
        )
    ]
    if (
        weights.config.classes == "published"
    ):  # for digits that training never saw see cards/results/baselines.md
        assert sum(hits) / 3 > 3 / ways  # three times chance
