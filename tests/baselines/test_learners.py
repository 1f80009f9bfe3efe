"""Trained weights as learners, which refuse a test that they have seen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.untrained import untrained_weights as weights

import baselines
import metaevents as me
from baselines.learners import Baseline, from_weights
from baselines.provenance import Seen
from baselines.snn import recurrence
from metaevents.errors import MissingError, UsageError


def learner(archive: Path, force: bool = False, **changes: Any) -> Baseline:
    return from_weights(weights(archive, **changes), "weights", force=force)


def score(learner: Baseline, dataset: me.DoubleNMNIST | Any) -> Any:
    return me.evaluate(learner, dataset, "sample-5way-1shot", episodes=2, queries=2, progress=False)


def one_recording(dataset: me.DoubleNMNIST | Any) -> Seen:
    """The record of one recording of a dataset, without its classes."""
    seen = Seen.of(dataset)
    return Seen((), seen.recordings[:1], seen.contents[:1])


@pytest.fixture(scope="module")
def archive(nmnist_root: Path) -> Path:
    return nmnist_root / "double-nmnist.h5"


def test_an_honest_test_is_scored_without_a_mark(archive: Path) -> None:
    report = score(learner(archive), me.load("double-nmnist", archive, "test"))
    assert report.overlap is None
    assert report.seen["trained"]["recordings"] == len(weights(archive).record.trained.recordings)


def test_a_test_of_trained_classes_is_refused_or_marked(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test", classes="novel-components")
    with pytest.raises(UsageError, match=r"the weights have seen .* classes were trained on"):
        score(learner(archive), test)
    report = score(learner(archive, force=True), test)
    assert "classes were trained on" in report.overlap
    assert "SEEN BEFORE" in str(report)


@pytest.mark.parametrize("split", ["trained", "chosen"])
def test_a_test_of_seen_recordings_is_refused_or_marked(split: str, archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    seen = {split: replace(one_recording(test), classes=("02",) if split == "chosen" else ())}
    with pytest.raises(UsageError, match=r"1 of its \d+ recordings were"):
        score(learner(archive, **seen), test)
    assert "1 of its" in score(learner(archive, force=True, **seen), test).overlap


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "train on other recordings than those of the test, or force"),
        ({"pairing": "published"}, "train with pairing='all', or force"),
        ({"classes": "novel-components"}, "train with classes='published', or force"),
    ],
    ids=str,
)
def test_a_refusal_advises_what_the_training_lacked(
    changes: dict[str, str], advice: str, archive: Path
) -> None:
    test = me.load("double-nmnist", archive, "test")
    seen = weights(archive, trained=one_recording(test))
    tested = from_weights(replace(seen, config=replace(seen.config, **changes)), "weights")
    with pytest.raises(UsageError, match=re.escape(advice)):
        tested.overlap(test)


def test_published_pairing_is_marked_for_its_own_leak_and_refused_for_any_other(
    archive: Path,
) -> None:
    test = me.load("double-nmnist", archive, "test", pairing="published")
    assert "used to choose" in score(learner(archive), test).overlap
    with pytest.raises(UsageError, match="trained on"):
        score(learner(archive, trained=one_recording(test)), test)


def test_evaluate_asks_before_the_first_episode(archive: Path) -> None:
    class Refusing:
        def overlap(self, dataset: object) -> str:
            raise UsageError("seen all of it")

        def adapt(self, *_: object) -> object:
            raise AssertionError("an episode was run")

    with pytest.raises(UsageError, match="seen all of it"):
        me.evaluate(
            Refusing(),
            me.load("double-nmnist", archive, "test"),
            "sample-5way-1shot",
            episodes=2,
            queries=2,
        )


def test_ways_that_the_head_does_not_have(archive: Path) -> None:
    test = me.load("double-nmnist", archive, "test")
    with pytest.raises(UsageError, match="5 outputs and the task has 20 classes"):
        me.evaluate(learner(archive), test, "20way-1shot", episodes=1, queries=2, progress=False)


def test_an_unknown_baseline_lists_what_ships() -> None:
    with pytest.raises(
        MissingError, match=r"no weights of snn-maml \(best\) for double-asl-dvs.*it has "
    ):
        baselines.load("snn-maml", dataset="double-asl-dvs")


def test_evaluating_computes_no_second_derivative(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snn = baselines.load("snn-maml")
    graphs: list[bool] = []
    modes: list[tuple[bool, torch.dtype]] = []
    gradients, apply_params = torch.autograd.grad, snn.model.net.apply_params

    def grad(*inputs: Any, **options: Any) -> Any:
        graphs.append(options.get("create_graph", False))
        return gradients(*inputs, **options)

    def forward(params: Any, x: torch.Tensor) -> torch.Tensor:
        modes.append((torch.is_grad_enabled(), x.dtype))
        return apply_params(params, x)

    def forbidden(*_: Any) -> Any:
        pytest.fail("a second derivative was computed")

    monkeypatch.setattr(torch.autograd, "grad", grad)
    monkeypatch.setattr(snn.model.net, "apply_params", forward)
    monkeypatch.setattr(recurrence, "refractory_second", forbidden)
    test = me.load("double-nmnist", archive, "test")
    episode = me.EpisodeLoader(test, 5, 1, 2, episodes=1)[0]
    classifier = snn.adapt(episode.support_x, episode.support_y, 5)
    assert graphs == [False] * 5
    assert modes == [(True, torch.float32)] * 5
    assert not classifier(episode.query_x).requires_grad
    assert set(modes[5:]) == {(False, torch.float32)}
