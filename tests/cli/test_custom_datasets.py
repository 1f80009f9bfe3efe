"""A dataset of the user's own, from its rules file to its row on the leaderboard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.command_line import error_line
from support.gestures import write_gestures, write_rules
from support.training_runs import train_words

import baselines.cli
import metaevents as me
from metaevents.cli import main


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, rules and the archive `data/gestures.h5`."""
    root = write_gestures(tmp_path_factory.mktemp("gestures"))
    words = ["build", "--rules", root / "rules.json", "--source", root / "raw", "--root"]
    assert main([str(word) for word in [*words, root / "data", "--jobs", 1]]) == 0
    return root


@pytest.fixture(scope="module")
def archive(root: Path) -> Path:
    return root / "data" / "gestures.h5"


@pytest.fixture(scope="module")
def entry(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry of a trivial baseline under the whole protocol."""
    path = tmp_path_factory.mktemp("entries") / "prototypes.json"
    words: list[object] = ["evaluate", "floor:prototypes", "--archive", archive, "--out", path]
    fields = {"name": "Prototypes", "code": "metaevents", "commit": "1.0.0", "other-data": "none",
              "hardware": "1 CPU", "authors": "Ada"}  # fmt: skip
    for name, value in fields.items():
        words += [f"--{name}", value]
    assert main(list(map(str, words))) == 0
    return path


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints with --json."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build_says_what_it_built(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = write_rules(tmp_path / "r.json", protocol="5way-5shot", partition="blocks-60-20-20")
    words = ["build", "--rules", rules, "--source", root / "raw", "--root", tmp_path]
    assert main([*map(str, words), "--jobs", "1"]) == 0
    text = capsys.readouterr().out
    assert "samples: 1 recording, frames (10, 2, 8, 8); partition blocks-60-20-20" in text
    assert "classes (published): train 3, val 2, test 5" in text
    assert "protocol 5way-5shot: does not fit: shots=5 and queries=15 need 20 recordings" in text


def test_info_verify_and_show_take_the_archive(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = printed(capsys, "info", archive)
    assert info["composition"] == {
        "title": "Gestures",
        "arity": 1,
        "frame_shape": [10, 2, 8, 8],
        "classes": {"published": {"train": 3, "val": 2, "test": 5}},
        "trained_test_classes": {"published": 0},
        "partition": "by-class",
        "protocol": "5way-1shot",
    }
    assert {(row["split"], row["fits"]) for row in info["episodes"]} == {("test", True)}
    assert main(["info", str(archive)]) == 0
    text = capsys.readouterr().out
    assert "gestures, rules of its own" in text
    assert "protocol 5way-1shot: fits" in text
    checked = printed(capsys, "verify", archive)["checked"]
    assert checked[-2] == "partition: every recording is where partition 'by-class' puts it"
    for name in ("sheet.png", "slow.gif"):
        figure = tmp_path / name
        assert main(["show", str(archive), "--out", str(figure), "--classes", "g0,g7"]) == 0
        assert figure.stat().st_size > 1000


def test_overlapping_classes_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {"train": ["g0", "g1"], "test": ["g1", "g2"]}
    rules = write_rules(tmp_path / "r.json", splits=splits, partition=None)
    words = ["build", "--rules", rules, "--source", root / "raw", "--root", tmp_path]
    assert main([*map(str, words), "--jobs", "1"]) == 0
    assert "1 classes both train and test" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["chance", "nearest-neighbour", "component-recogniser"])
def test_trivial_baselines_are_evaluated(
    archive: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("metaevents.benchmark.trivial._TRAIN_STEPS", 30)
    report = printed(
        capsys, "evaluate", f"floor:{name}", "--archive", archive.parent, "--episodes", 4
    )
    assert report["protocol"]["dataset"] == "gestures"
    assert report["deviations"] == ["episodes=4 instead of 600"]
    assert (report["accuracy"] > 0.35) == (name != "chance")


def test_other_numbers_of_ways_are_protocols_too(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "floor:chance", "--archive", archive, "--episodes", 2, "--protocol"]
    report = printed(capsys, *words, "sample-3way-4shot")
    assert [report["protocol"][name] for name in ("ways", "shots", "queries")] == [3, 4, 10]
    assert report["deviations"] == ["episodes=2 instead of 600"]
    assert "ways=20, but the test split of gestures has 5 classes" in error_line(
        capsys, *words, "20way-1shot"
    )
    assert "or <N>way-<K>shot with other numbers" in error_line(capsys, *words, "many")
    assert "gestures has no published pairing" in error_line(
        capsys, *words[:-1], "--pairing", "published"
    )


def test_the_protocol_of_the_rules_is_the_default(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = write_rules(tmp_path / "r.json", protocol="2way-2shot")
    words = ["build", "--rules", rules, "--source", root / "raw", "--root", tmp_path]
    assert main([*map(str, words), "--jobs", "1"]) == 0
    capsys.readouterr()
    report = printed(capsys, "evaluate", "floor:chance", "--archive", tmp_path, "--episodes", 2)
    assert report["protocol"]["name"] == "2way-2shot"


def test_an_entry_is_validated_with_and_without_the_archive(
    entry: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = printed(capsys, "validate", entry)
    assert any("not checked: episodes, classes, source" in line for line in result["remarks"])
    result = printed(capsys, "validate", entry, "--archive", archive)
    assert not any("not checked" in line for line in result["remarks"])
    assert any(line.startswith("score: recomputed") for line in result["checked"])
    predictions = entry.parent / "predictions.npz"
    score = printed(capsys, "score", predictions, "--archive", archive)
    assert score["accuracy"] == json.loads(entry.read_text("utf-8"))["report"]["accuracy"]


def test_an_entry_of_another_archive_is_refused(
    entry: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = write_rules(tmp_path / "r.json", bins=20)
    words = ["build", "--rules", rules, "--source", root / "raw", "--root", tmp_path]
    assert main([*map(str, words), "--jobs", "1"]) == 0
    capsys.readouterr()
    assert "give the archive that they were made on" in error_line(
        capsys, "validate", entry, "--archive", tmp_path
    )


def test_its_entries_have_a_section_of_their_own(
    entry: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(entry.parent, tmp_path / "entries")
    words = ["leaderboard", "--entries", tmp_path / "entries", "--html", tmp_path / "html"]
    words += ["--markdown", tmp_path / "board.md"]
    facts = printed(capsys, *words)
    assert [table["protocol"]["dataset"] for table in facts["tables"]] == ["gestures"]
    fingerprint = me.Archive(archive).fingerprint[:12]
    assert f"gestures (fingerprint {fingerprint})" in (tmp_path / "board.md").read_text("utf-8")
    assert f"gestures (fingerprint {fingerprint})" in (tmp_path / "html/index.html").read_text(
        "utf-8"
    )


def test_a_baseline_is_trained_and_evaluated_on_it(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"ways": 3, "steps": 2, "time_stride": 1, "burn_in": 5}
    words = train_words(archive, tmp_path / "run", model="cnn-maml", channels=(4, 4), **changes)
    assert baselines.cli.main(words) == 0
    capsys.readouterr()
    evaluate = ["evaluate", tmp_path / "run", "--archive", archive, "--protocol", "3way-1shot"]
    assert baselines.cli.main([*map(str, evaluate), "--episodes", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seen"]["dataset"] == "gestures"
    assert report["overlap"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "--root", "x"], "a dataset and --rules are not given; give one of"),
        (["build", "n-omniglot", "--rules", "r.json", "--root", "x"], "are both given"),
        (["build", "--rules", "none.json", "--root", "x"], "one of cifar10-dvs, n-caltech101"),
        (["build", "--rules", "n-caltech101", "--root", "x"], "give it with --source DIR"),
        (["build", "--rules", "n-caltech101", "--simulated", "--root", "x"], "for built-in data"),
        (["build", "--rules", "n-caltech101", "--source", "none", "--root", "x"], "no "),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, *words)
    assert not (tmp_path / "x").exists()


def test_an_existing_archive_is_kept(
    root: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "--rules", root / "rules.json", "--source", root / "raw", "--root"]
    before = archive.read_bytes()
    assert "pass --force" in error_line(capsys, *words, archive.parent)
    assert main([*map(str, [*words, archive.parent]), "--force", "--jobs", "2"]) == 0
    assert archive.read_bytes() == before  # whatever the number of jobs
