"""The command line `python -m baselines`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.command_line import error_line
from support.training_runs import environment, train_words

import baselines.learners
from baselines.cli import main
from baselines.config import recipe
from baselines.publish import publish
from baselines.training.loop import TrainingRun

PROTOCOL = ("--protocol", "sample-5way-1shot", "--episodes", "3", "--queries", "2")
SMALL: dict[str, Any] = {
    "channels": (4, 4, 8),
    "steps": 4,
    "val_every": 2,
    "val_episodes": 3,
    "queries": 3,
    "pretrain_steps": 0,
}


@pytest.fixture(scope="module")
def runs(nmnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings of one method."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for seed, folder in enumerate(folders):
        config = recipe("cnn-maml", "paper", seed=seed, **SMALL)
        TrainingRun(config, nmnist_root, folder, progress=False, device="cpu").run()
    return folders


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--steps", "0"], "steps=0 is out of range; give a whole number from 1"),
        (["--pooling", "median"], "pooling='median'"),
        (["--device", "cuda:9"], "no device 'cuda:9' here"),
        (["--start-from", "nowhere"], "no weights "),
        (["--kernel", "4"], "kernel=4 is even; give an odd number"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str],
    problem: str,
    simulated_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*train_words(simulated_root, tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--lr", "nan"], "argument --lr: 'nan'; give a finite number"),
        (["--channels", "4", "x", "8"], "argument --channels: 'x'; give a whole number"),
        (["--seed", "1.0"], "argument --seed: '1.0'; give a whole number"),
    ],
)
def test_words_that_are_no_numbers_are_one_line(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train_words(tmp_path / "a.h5", tmp_path / "run")
    assert problem in error_line(capsys, *words, *options, program=main)


def test_help_imports_no_heavy_package() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "baselines", "train", "--help"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert "--inner-lr" in done.stdout
    for package in ("torch", "numba", "matplotlib", "h5py"):
        assert f"| {package}" not in done.stderr


def test_several_trainings_of_a_method_make_one_entry(
    runs: list[Path], nmnist_root: Path, tmp_path: Path
) -> None:
    words = ["evaluate", *map(str, runs), "--archive", str(nmnist_root), *PROTOCOL]
    assert main([*words, "--out", str(tmp_path / "e.json"), "--name", "Mine"]) == 0
    entry = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert entry["report"]["training_seeds"]["seeds"] == 2
    assert entry["method"]["name"] == "Mine"
    assert "seed 0, 1" in entry["method"]["notes"]
    assert entry["method"]["command"].startswith("python -m baselines evaluate ")


def test_seeds_of_a_baseline_of_the_release_make_one_entry(
    runs: list[Path],
    nmnist_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(baselines.learners, "SHIPPED", tmp_path)
    for run in runs:
        publish(run, folder=tmp_path)
    words = ["evaluate", "cnn-maml", "--recipe", "paper", "--archive", str(nmnist_root), *PROTOCOL]
    words += ["--training-seeds", "0", "1"]
    assert main([*words, "--out", str(tmp_path / "e.json")]) == 0
    entry = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert entry["report"]["training_seeds"]["seeds"] == 2
    assert entry["report"]["seen"]["config"]["seed"] == 0
    assert " --training-seeds 0 1 " in entry["method"]["command"]
    capsys.readouterr()
    assert main([*words, "4"]) == 2
    assert "pairing all and seed 4" in capsys.readouterr().err


def test_a_seen_test_is_refused_in_one_line_and_marked_when_forced(
    runs: list[Path], nmnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(runs[0]), "--archive", str(nmnist_root), *PROTOCOL]
    words += ["--classes", "novel-components"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "were trained on" in error
    assert main([*words, "--force", "--out", str(tmp_path / "e.json")]) == 0
    entry = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert "were trained on" in entry["report"]["overlap"]


def test_the_weights_of_the_release_are_there_in_a_zip(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        for path in sorted(
            path for name in ("metaevents", "baselines") for path in (root / name).rglob("*")
        ):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(root))
    code = "import baselines; print(baselines.__file__, baselines.load('cnn-maml').config.model)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path / "packages.zip")},
    )
    assert done.returncode == 0, done.stderr
    place, model = done.stdout.split()
    assert "packages.zip" in place
    assert model == "cnn-maml"


def test_no_run_starts_for_a_group_that_cannot_be(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    out = tmp_path / "run"
    assert main(train_words(simulated_root, out)) == 2
    assert "MASTER_ADDR" in capsys.readouterr().err
    reproduce = ["reproduce", "table2", "--archive", str(simulated_root), "--out", str(out)]
    assert main(reproduce) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()


def test_a_folder_with_the_name_of_a_baseline_is_evaluated_as_a_path(
    runs: list[Path], nmnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs[1], tmp_path / "cnn-maml")
    monkeypatch.chdir(tmp_path)
    for word in ("./cnn-maml", "cnn-maml/"):
        words = ["evaluate", word, "--archive", str(nmnist_root), *PROTOCOL]
        assert main([*words, "--out", "e.json"]) == 0
        entry = json.loads(Path("e.json").read_text("utf-8"))
        assert entry["report"]["seen"]["config"]["seed"] == 1
        assert entry["method"]["command"].startswith("python -m baselines evaluate ./cnn-maml ")
    for path in (Path("./cnn-maml"), "./cnn-maml"):
        assert baselines.learners.load(path).config.seed == 1
    assert baselines.learners.load("cnn-maml").config.seed == 0


def test_trainings_of_different_methods_are_no_trainings_of_one(
    runs: list[Path], nmnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*weights: object) -> str:
        return error_line(
            capsys, "evaluate", *map(str, weights), "--archive", str(nmnist_root), *PROTOCOL,
            program=main,
        )  # fmt: skip

    assert "different methods (recipe paper and best)" in line(runs[0], "cnn-maml")
    assert "different methods (model cnn-maml and cnn-fomaml)" in line("cnn-maml", "cnn-fomaml")
    assert "give every seed once" in line(runs[0], runs[1], runs[0])


@pytest.mark.parametrize("output", ["w.safetensors", "link.json"])
def test_weights_are_not_replaced(
    output: str,
    runs: list[Path],
    nmnist_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = Path(shutil.copy(runs[0] / "best.safetensors", tmp_path / "w.safetensors"))
    (tmp_path / "link.json").symlink_to(weights)
    before = weights.read_bytes()
    given = [str(weights), "--archive", str(nmnist_root), *PROTOCOL]
    for option in ("--out", "--predictions"):
        error_line(capsys, "evaluate", *given, option, str(tmp_path / output), program=main)
    error_line(capsys, "export", str(weights), "--out", str(tmp_path / output), program=main)
    assert weights.read_bytes() == before
