"""Training runs: what they learn, what they leave, and that they go on bit for bit wherever they stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import metaevents as me
from baselines.config import MODELS, RECIPES, RunConfig, recipe
from baselines.learners import load
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingError, TrainingRun, train
from baselines.weights_file import read_weights
from metaevents.errors import MissingError, UsageError

SMALL: dict[str, Any] = {
    "channels": (4, 4, 8), "time_stride": 10, "burn_in": 50, "steps": 6, "val_every": 2, "val_episodes": 3, "queries": 3,
    "meta_batch_size": 2, "pretrain_steps": 0, "batch_size": 8,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _no_gpu() -> Iterator[None]:
    """What is promised bit for bit is promised on a CPU, so a GPU that is there is left alone; `test_gpu` has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


def small(model: str = "snn-maml", **changes: Any) -> RunConfig:
    return recipe(model, "paper", **{**SMALL, **changes})


def command(
    archive: Path, out: Path, *options: str, model: str = "snn-maml", **changes: Any
) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "baselines",
        "train",
        model,
        "--recipe",
        "paper",
        "--archive",
        str(archive),
        "--out",
        str(out),
    ]
    for name, value in {**SMALL, **changes}.items():
        values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{name.replace('_', '-')}", *values]
    return [*words, *options]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def without_time(out: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in learning_curve(out)
    ]


def wait_for(path: Path, process: subprocess.Popen[str], text: str = "") -> None:
    deadline = time.monotonic() + 120
    while not (path.is_file() and text in path.read_text("utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def archive(simulated_root: Path) -> Path:
    return simulated_root / "double-nmnist.h5"


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, in a process of its own."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(
        command(archive, out), check=True, capture_output=True, text=True, env=environment()
    )
    return out


# --- what a run leaves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_is_a_learner_that_evaluate_takes(
    model: str, archive: Path, tmp_path: Path
) -> None:
    run = TrainingRun(small(model, steps=2), archive, tmp_path, progress=False, device="cpu")
    best = run.run()
    learner = load(best)
    report = me.evaluate(
        learner,
        me.load("double-nmnist", archive, "test"),
        "sample-5way-1shot",
        episodes=2,
        progress=False,
    )
    assert report.parameters == sum(p.numel() for p in learner.model.parameters())
    assert report.seen is not None
    assert report.seen["config"]["model"] == model
    assert report.overlap is None
    assert not report.transductive
    assert report.deterministic


def test_a_run_learns_what_it_is_shown(archive: Path, tmp_path: Path) -> None:
    train(
        small(
            "cnn-transfer",
            steps=150,
            val_every=50,
            channels=(8, 16, 32),
            norm_groups=4,
            batch_size=32,
        ),
        archive,
        tmp_path,
        progress=False,
    )
    curve = learning_curve(tmp_path)
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert curve[-1]["held_out_accuracy"] > 5 / 64


def test_the_folder_holds_configuration_log_best_weights_and_a_checkpoint(whole: Path) -> None:
    assert RunConfig.from_dict(json.loads((whole / "config.json").read_text("utf-8"))) == small()
    assert [line["step"] for line in learning_curve(whole)] == [2, 4, 6]
    assert {"loss", "accuracy", "val_accuracy", "val_ci95", "lr"} <= set(learning_curve(whole)[0])
    state = torch.load(whole / "last" / "step-0000006.optimizer.pt", weights_only=True)
    assert state["adam"]["state"][0]["step"] == 6
    with safe_open(whole / "best.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["model"] == "snn-maml"
    assert sorted(path.name for path in (whole / "last").iterdir()) == [
        "state.json", "step-0000006.optimizer.pt", "step-0000006.safetensors",
    ]  # fmt: skip


def test_the_best_weights_are_those_of_the_best_validation(archive: Path, tmp_path: Path) -> None:
    run = TrainingRun(small(steps=8, lr=0.05), archive, tmp_path, progress=False)
    run.run()
    curve = learning_curve(tmp_path)
    best = max(curve, key=lambda line: line["val_accuracy"])  # the first of equals
    record = read_weights(tmp_path / "best.safetensors").record
    assert record.step == best["step"]
    assert record.measured is not None
    assert record.measured["val_accuracy"] == best["val_accuracy"]


def test_validation_draws_from_the_val_split_and_training_from_the_train_split_alone(
    whole: Path, archive: Path
) -> None:
    record = read_weights(whole / "best.safetensors").record
    splits = {name: me.load("double-nmnist", archive, name) for name in ("train", "val", "test")}
    assert record.trained.classes == splits["train"].classes
    assert record.chosen.classes == splits["val"].classes
    tested = {
        id
        for c in splits["test"].classes
        for side in splits["test"].recording_ids(c)
        for id in side
    }
    assert tested.isdisjoint(record.trained.recordings)
    assert tested.isdisjoint(record.chosen.recordings)
    trained = {
        id
        for c in splits["train"].classes
        for side in splits["train"].recording_ids(c)
        for id in side
    }
    assert trained == set(record.trained.recordings)


def test_more_ways_than_the_val_split_has_classes(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(
        small("cnn-maml", ways=20, steps=2, val_episodes=1),
        archive,
        tmp_path / "run",
        progress=False,
    )
    assert "validation has 16 ways, not 20" in caplog.text
    test = me.load("double-nmnist", archive, "test")
    report = me.evaluate(
        load(tmp_path / "run"), test, "20way-1shot", episodes=2, queries=1, progress=False
    )
    assert 0 <= report.accuracy <= 1


def test_the_learning_rate_falls_by_half_a_cosine_over_all_steps(
    archive: Path, tmp_path: Path
) -> None:
    run = TrainingRun(small("cnn-maml", steps=8, val_every=4), archive, tmp_path, progress=False)
    assert run._optimizer.param_groups[0]["lr"] == pytest.approx(2e-3)
    run.run()
    first, last = learning_curve(tmp_path)
    assert first["lr"] == pytest.approx(2e-3 * (1 + 1 / 50) / 2)
    assert last["lr"] == pytest.approx(2e-3 / 50)


def test_tensorboard_scalars_are_written(archive: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    TrainingRun(small("cnn-maml"), archive, tmp_path, progress=False, tensorboard=True).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val_accuracy")] == [2, 4, 6]


def test_bfloat16_trains_near_float32(archive: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        run = TrainingRun(
            small("cnn-maml", precision=precision, inner_lr=0.01, norm_groups=4),
            archive,
            tmp_path / precision,
            progress=False,
        )
        run.run()
        losses.append(learning_curve(tmp_path / precision)[0]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


# --- going on --------------------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_bit_for_bit(whole: Path, archive: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(archive, tmp_path / "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for(tmp_path / "run" / "last" / "state.json", process, '"step": 2')
    process.kill()
    process.communicate()
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text("utf-8"))["step"] in (
        2,
        4,
    )
    subprocess.run(
        command(archive, tmp_path / "run", "--resume"),
        check=True,
        capture_output=True,
        env=environment(),
    )
    assert same_weights(tmp_path / "run" / "best.safetensors", whole / "best.safetensors")
    last = "last/step-0000006.safetensors"
    assert same_weights(tmp_path / "run" / last, whole / last)
    assert without_time(tmp_path / "run") == without_time(whole)


def test_ctrl_c_stops_at_a_checkpoint_that_goes_on_bit_for_bit(
    whole: Path, archive: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(archive, tmp_path / "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for(tmp_path / "run" / "last" / "state.json", process)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert complaint.count("\n") == 1
    assert "--resume goes on" in complaint
    subprocess.run(
        command(archive, tmp_path / "run", "--resume"),
        check=True,
        capture_output=True,
        env=environment(),
    )
    last = "last/step-0000006.safetensors"
    assert same_weights(tmp_path / "run" / last, whole / last)


def test_a_finished_run_resumed_stays_as_it_is(whole: Path, archive: Path) -> None:
    before = (whole / "best.safetensors").read_bytes()
    assert (
        TrainingRun(None, archive, whole, resume=True, progress=False).run()
        == whole / "best.safetensors"
    )
    assert (whole / "best.safetensors").read_bytes() == before


def test_two_processes_give_the_weights_of_one(whole: Path, archive: Path, tmp_path: Path) -> None:
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    words = command(archive, tmp_path / "run", "--device", "cpu")[1:]
    done = subprocess.run(
        [*torchrun, *words], capture_output=True, text=True, env=environment(), timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert same_weights(
        tmp_path / "run" / "last" / "step-0000006.safetensors",
        whole / "last" / "step-0000006.safetensors",
    )
    assert done.stdout.count("best.safetensors") == 1


def test_pretraining_is_a_run_of_its_own_whose_past_is_remembered(
    archive: Path, tmp_path: Path
) -> None:
    result = train(small(pretrain_steps=2), archive, tmp_path / "run", progress=False)
    assert result is not None
    body = load_file(tmp_path / "run" / "pretrain" / "best.safetensors")["body.0.weight"]
    start = TrainingRun(
        small(),
        archive,
        tmp_path / "other",
        start_from=tmp_path / "run" / "pretrain",
        progress=False,
    )
    assert torch.equal(start.learner.net.state_dict()["body.0.weight"], body)
    assert not start.learner.net.state_dict()["head.weight"].any()
    assert (
        read_weights(tmp_path / "run" / "pretrain" / "best.safetensors").config.model
        == "snn-transfer"
    )


# --- bad luck --------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    archive: Path, tmp_path: Path
) -> None:
    run = TrainingRun(
        small("cnn-maml", steps=40, lr=1e20, val_every=1), archive, tmp_path, progress=False
    )
    with pytest.raises(
        TrainingError, match=r"step \d+ is no number .* checkpoint of step \d+ .* smaller --lr"
    ):
        run.run()
    kept = json.loads((tmp_path / "last" / "state.json").read_text("utf-8"))["step"]
    tensors = load_file(tmp_path / "last" / f"step-{kept:07d}.safetensors")
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    ("model", "advice"), [("cnn-maml", "--queries"), ("cnn-transfer", "--batch-size")]
)
def test_a_gpu_that_is_too_small_stops_with_advice_and_keeps_the_last_good_checkpoint(
    model: str, advice: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(small(model, steps=4, val_every=1), archive, tmp_path, progress=False)
    objective = type(run._objective)
    accumulate = objective.accumulate

    def of_a_full_gpu(self: Any, step: int, share: range) -> Any:
        if step == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return accumulate(self, step, share)

    monkeypatch.setattr(objective, "accumulate", of_a_full_gpu)
    with pytest.raises(
        TrainingError,
        match=rf"after step 2 .* more memory .* checkpoint of step 2 .* smaller {advice}",
    ):
        run.run()
    assert json.loads((tmp_path / "last" / "state.json").read_text("utf-8"))["step"] == 2


def test_a_folder_with_a_run_is_not_written_over(whole: Path, archive: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*"))
    with pytest.raises(UsageError, match="holds a run; give --resume"):
        TrainingRun(small(), archive, whole, progress=False)
    assert sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*")) == before


def test_a_run_does_not_go_on_with_other_options(whole: Path, archive: Path) -> None:
    with pytest.raises(UsageError, match=r"started with steps=6 .* go on with 7"):
        TrainingRun(small(steps=7), archive, whole, resume=True, progress=False)


def test_a_run_does_not_go_on_with_another_archive(whole: Path, nmnist_root: Path) -> None:
    with pytest.raises(UsageError, match="fingerprint"):
        TrainingRun(small(), nmnist_root / "double-nmnist.h5", whole, resume=True, progress=False)


def test_two_runs_do_not_share_a_folder(archive: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(archive, tmp_path, steps=2000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        wait_for(tmp_path / "last" / "state.json", process)
        with pytest.raises(UsageError, match="another process is training"):
            TrainingRun(None, archive, tmp_path, resume=True, progress=False).run()
    finally:
        process.kill()
        process.communicate()


def test_weights_of_another_network_are_no_start(
    archive: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="another architecture: body"):
        TrainingRun(small(channels=(4, 8, 8)), archive, tmp_path, start_from=whole, progress=False)


def test_weights_trained_on_test_classes_are_no_start(
    archive: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="trained on classes of the"):
        TrainingRun(
            small(classes="novel-components"), archive, tmp_path, start_from=whole, progress=False
        )


def test_too_few_recordings_for_an_episode_are_named(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="queries=200 need"):
        TrainingRun(small(queries=200), archive, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--steps", "0"], "steps=0; give at least 1"),
        (["--pooling", "median"], "pooling='median'"),
        (["--device", "cuda:9"], "no device 'cuda:9' here"),
        (["--start-from", "nowhere"], "no weights nowhere"),
        (["--kernel", "4"], "kernel of 4"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], complaint: str, archive: Path, tmp_path: Path
) -> None:
    from baselines.cli import main

    words = command(archive, tmp_path / "run")[3:]
    status, error = complain(main, [*words, *options])
    assert status == 2
    assert complaint in error
    assert error.count("\n") == 1


def complain(main: Any, words: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, stream.getvalue()


def test_help_is_quick_to_import() -> None:
    """No torch behind --help: it would take seconds."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "baselines", "train", "--help"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert "--inner-lr" in done.stdout
    assert "| torch" not in done.stderr
    assert "numba" not in done.stderr


# --- configurations --------------------------------------------------------------------------------------------------------


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["snn-maml"]["paper"]
    assert (paper.ways, paper.shots, paper.queries, paper.inner_steps, paper.inner_lr) == (
        5,
        1,
        10,
        1,
        1.0,
    )
    assert (paper.lr, paper.min_lr_ratio, paper.steps, paper.meta_batch_size, paper.burn_in) == (
        2e-3,
        1 / 50,
        20_000,
        1,
        70,
    )
    net = paper.network((100, 2, 16, 32))
    assert sum(p.numel() for p in net.parameters()) == 262_949
    assert not RECIPES["snn-fomaml"]["paper"].meta_learner(net).config.second_order


def test_a_configuration_survives_its_document() -> None:
    config = small("cnn-fomaml", inner_layers="2")
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose one of snn-maml"):
        recipe("rnn-maml")
    with pytest.raises(UsageError, match="paper, best"):
        recipe("snn-maml", "worst")
    with pytest.raises(UsageError, match="no field 'depth'"):
        recipe("snn-maml", depth=3)
    with pytest.raises(UsageError, match="'depth', unknown to this release"):
        RunConfig.from_dict({"depth": 3})


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run in"):
        learning_curve(tmp_path)
