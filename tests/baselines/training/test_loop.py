"""The training loop: it learns, validates, and continues bit for bit from wherever it stopped."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.torchrun import torchrun
from support.training_runs import (
    complete,
    same_weights,
    small,
    start,
    train_words,
    wait_for,
    without_time,
)

import metaevents as me
from baselines.accuracy import recording_design
from baselines.config import MODELS
from baselines.learners import load
from baselines.training.folder import learning_curve
from baselines.training.loop import TrainingError, TrainingRun, train
from baselines.training.validation import validation_episodes
from baselines.weights_file import read_weights
from metaevents.benchmark.statistics import ci95, episode_ci95
from metaevents.errors import UsageError


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_can_be_evaluated(model: str, archive: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    run = TrainingRun(small(model, steps=2), archive, tmp_path, progress=False, device="cpu")
    best = run.run()
    learner = load(best)
    test = me.load("double-nmnist", archive, "test")
    form = learner.representation
    (episode,) = me.EpisodeLoader(test, 5, 1, 2, episodes=1, representation=form)
    learner.adapt(episode.support_x, episode.support_y, 5)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    report = me.evaluate(learner, test, "sample-5way-1shot", episodes=2, progress=False)
    assert report.parameters == sum(p.numel() for p in learner.model.parameters())
    assert report.seen is not None
    assert report.seen["config"]["model"] == model
    assert report.overlap is None
    assert not report.transductive
    assert report.deterministic


def test_the_best_weights_are_those_of_the_best_validation(archive: Path, tmp_path: Path) -> None:
    run = TrainingRun(small(steps=8, lr=0.05), archive, tmp_path, progress=False)
    run.run()
    curve = learning_curve(tmp_path)
    best = max(curve, key=lambda line: line["val_accuracy"])  # the first of equals
    record = read_weights(tmp_path / "best.safetensors").record
    assert record.step == best["step"]
    assert record.measured is not None
    assert record.measured["val_accuracy"] == best["val_accuracy"]


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


def test_a_killed_run_continues_bit_for_bit(whole: Path, archive: Path, tmp_path: Path) -> None:
    process = start(train_words(archive, tmp_path / "run"))
    wait_for(tmp_path / "run" / "last" / "state.json", process, '"step": 2')
    process.kill()
    process.communicate()
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text("utf-8"))["step"] in (
        2,
        4,
    )
    complete(train_words(archive, tmp_path / "run", "--resume"))
    assert same_weights(tmp_path / "run" / "best.safetensors", whole / "best.safetensors")
    last = "last/step-0000006.safetensors"
    assert same_weights(tmp_path / "run" / last, whole / last)
    assert without_time(tmp_path / "run") == without_time(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_at_a_checkpoint_and_continues_bit_for_bit(
    number: int, whole: Path, archive: Path, tmp_path: Path
) -> None:
    process = start(train_words(archive, tmp_path / "run"))
    wait_for(tmp_path / "run" / "last" / "state.json", process)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert error.count("\n") == 1
    assert "--resume continues it" in error
    complete(train_words(archive, tmp_path / "run", "--resume"))
    last = "last/step-0000006.safetensors"
    assert same_weights(tmp_path / "run" / last, whole / last)


def test_resuming_a_finished_run_changes_nothing(whole: Path, archive: Path) -> None:
    before = (whole / "best.safetensors").read_bytes()
    assert (
        TrainingRun(None, archive, whole, resume=True, progress=False).run()
        == whole / "best.safetensors"
    )
    assert (whole / "best.safetensors").read_bytes() == before


def test_two_processes_give_the_weights_of_one(whole: Path, archive: Path, tmp_path: Path) -> None:
    done = torchrun("-m", "baselines", *train_words(archive, tmp_path / "run", "--device", "cpu"))
    assert done.returncode == 0, done.stderr
    last = "last/step-0000006.safetensors"
    assert same_weights(tmp_path / "run" / last, whole / last)
    assert done.stdout.count("best.safetensors") == 1


def test_pretraining_is_a_run_that_another_run_can_start_from(
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


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    archive: Path, tmp_path: Path
) -> None:
    run = TrainingRun(
        small("cnn-maml", steps=40, lr=1e20, val_every=1), archive, tmp_path, progress=False
    )
    with pytest.raises(
        TrainingError, match=r"step \d+ is not a number .* checkpoint of step \d+ .* smaller --lr"
    ):
        run.run()
    kept = json.loads((tmp_path / "last" / "state.json").read_text("utf-8"))["step"]
    tensors = load_file(tmp_path / "last" / f"step-{kept:07d}.safetensors")
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    ("model", "advice"), [("cnn-maml", "--queries"), ("cnn-transfer", "--batch-size")]
)
def test_a_gpu_that_is_too_small_stops_the_run_with_advice_and_keeps_the_last_good_checkpoint(
    model: str, advice: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(small(model, steps=4, val_every=1), archive, tmp_path, progress=False)
    objective = type(run._objective)
    accumulate = objective.accumulate

    def on_a_full_gpu(self: Any, step: int, share: range) -> Any:
        if step == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return accumulate(self, step, share)

    monkeypatch.setattr(objective, "accumulate", on_a_full_gpu)
    with pytest.raises(
        TrainingError,
        match=rf"after step 2 .* more memory .* checkpoint of step 2 .* smaller {advice}",
    ):
        run.run()
    assert json.loads((tmp_path / "last" / "state.json").read_text("utf-8"))["step"] == 2


def test_validation_intervals_are_those_of_the_benchmark(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(small("cnn-maml", steps=2), archive, tmp_path, progress=False)
    answers: list[np.ndarray] = []
    measure = run._validation_answers

    def measured() -> np.ndarray:
        answers.append(measure())
        return answers[-1]

    monkeypatch.setattr(run, "_validation_answers", measured)
    run.run()
    (found,) = answers
    episodes = validation_episodes(run.val, run.config, run.learner.representation)
    line = learning_curve(tmp_path)[0]
    assert line["val_accuracy"] == pytest.approx(found.mean())
    assert line["val_ci95"] == pytest.approx(ci95(found, recording_design([episodes])))
    assert line["val_episode_ci95"] == pytest.approx(episode_ci95(found.mean(axis=1)))


def test_a_single_validation_episode_has_the_widest_interval(archive: Path, tmp_path: Path) -> None:
    TrainingRun(small("cnn-maml", steps=2, val_episodes=1), archive, tmp_path, progress=False).run()
    assert learning_curve(tmp_path)[0]["val_ci95"] == 1.0


def test_a_stale_rank_variable_does_not_silence_a_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with torch.inference_mode():
        result = train(small(steps=2), archive, tmp_path, progress=False)
    assert result is not None
    assert Path(result["weights"]).is_file()
    assert json.loads((tmp_path / "last" / "state.json").read_text("utf-8"))["step"] == 2


def test_an_optimizer_of_another_run_is_refused(whole: Path, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    file = folder / "last" / "step-0000006.optimizer.pt"
    state = torch.load(file, weights_only=True)
    state["adam"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(state, file)
    with pytest.raises(UsageError, match="does not fit the run"):
        TrainingRun(small(), archive, folder, resume=True, progress=False)
