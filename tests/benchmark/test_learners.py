"""Learners: which input they get, and which answers are accepted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest
import torch
from support.simple_learners import ClassMeans, OnSums, evaluate, first_cells

import metaevents as me
from metaevents.errors import UsageError


def test_functions_learn_too(digits: me.DoubleNMNIST) -> None:
    def learner(x: torch.Tensor, y: torch.Tensor, n: int) -> Callable[[torch.Tensor], torch.Tensor]:
        assert x.shape == (5, 100, 2, 16, 32)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        means = x.sum(dim=1).flatten(1)[y.argsort()]
        return lambda query_x: -torch.cdist(query_x.sum(dim=1).flatten(1), means)

    assert evaluate(learner, digits).accuracy == evaluate(ClassMeans(), digits).accuracy


@pytest.mark.parametrize(
    ("attributes", "kind", "shape", "dtype"),
    [
        ({"representation": "sum"}, torch.Tensor, (2, 16, 32), torch.float32),
        ({"representation": "sum", "dtype": "uint8"}, torch.Tensor, (2, 16, 32), torch.uint8),
        ({"dtype": torch.float16}, torch.Tensor, (100, 2, 16, 32), torch.float16),
        ({"layout": "TPWH", "dtype": np.uint8}, torch.Tensor, (100, 2, 32, 16), torch.uint8),
        ({"numpy": True, "device": "cpu"}, np.ndarray, (100, 2, 16, 32), np.float32),
    ],
)
def test_attributes_say_how_a_learner_wants_its_input(
    digits: me.DoubleNMNIST,
    attributes: dict[str, Any],
    kind: type,
    shape: tuple[int, ...],
    dtype: Any,
) -> None:
    seen = []

    class Learner:
        def adapt(self, support_x: Any, support_y: Any, ways: int) -> Any:
            seen.append((support_x, 5))

            def classify(query_x: Any) -> np.ndarray:
                seen.append((query_x, None))
                return np.zeros((len(query_x), ways))

            return classify

    for name, value in attributes.items():
        setattr(Learner, name, value)
    evaluate(Learner(), digits, episodes=1)
    for x, n in seen:
        assert isinstance(x, kind)
        assert x.dtype == dtype
        assert x.shape == (n or len(x), *shape)


def test_event_lists_reach_the_learner_as_lists(digits: me.DoubleNMNIST) -> None:
    class CountsEvents:
        representation = "events"

        def adapt(self, support_x: list[np.ndarray], support_y: torch.Tensor, ways: int) -> Any:
            counts = np.array([len(events) for events in support_x])
            return lambda query_x: -np.abs(np.array([[len(events)] for events in query_x]) - counts)

    report = evaluate(CountsEvents(), digits)
    assert not report.transductive


def test_unfit_attributes_are_refused(digits: me.DoubleNMNIST) -> None:
    for name, value, message in (
        ("representation", "voxels", "representation='voxels'"),
        ("dtype", "int32", "dtype=torch.int32"),
        ("dtype", "counts", "dtype=.counts."),
        ("device", "abacus", "device='abacus'"),
    ):
        learner = ClassMeans()
        setattr(learner, name, value)
        with pytest.raises(UsageError, match=message):
            evaluate(learner, digits)


@pytest.mark.parametrize("learner", [ClassMeans, 3, "floor:prototypes"])
def test_what_cannot_learn_is_refused(digits: me.DoubleNMNIST, learner: Any) -> None:
    with pytest.raises(
        UsageError, match=r"is no learner; give an object with adapt\(support_x, support_y, ways\)"
    ):
        evaluate(learner, digits)


def nan_for_one(x: torch.Tensor, ways: int) -> torch.Tensor:
    scores = torch.zeros(len(x), ways)
    scores[3, 2] = torch.nan
    return scores


@pytest.mark.parametrize(
    ("classify", "message"),
    [
        (
            lambda x, ways: torch.zeros(len(x), ways + 1),
            r"gave shape \[50, 6\]; return scores \[50, 5\]",
        ),
        (lambda x, ways: torch.zeros(len(x), ways, 1), r"gave shape \[50, 5, 1\]"),
        (lambda x, ways: torch.zeros(ways), r"gave shape \[5\]"),
        (
            lambda x, ways: torch.zeros(len(x), dtype=torch.int64),
            r"whole numbers \[50\], as if they were class ids",
        ),
        (nan_for_one, "gave NaN for 1 of 50 queries"),
        (
            lambda x, ways: torch.zeros(len(x), ways, device="meta"),
            "are on meta, the queries were on cpu",
        ),
        (lambda x, ways: np.full((len(x), ways), "a"), "gave <U1"),
        (lambda x, ways: torch.zeros(len(x), ways, dtype=torch.complex64), "gave complex64"),
        (lambda x, ways: [[0] * ways, [0]], "gave list that is no array"),
        (lambda x, ways: x.nonsense, "failed in classify: AttributeError"),
    ],
)
def test_unfit_scores_stop_the_run_and_name_the_episode(
    digits: me.DoubleNMNIST, classify: Any, message: str
) -> None:
    calls = []

    def from_the_second_episode_on(x: torch.Tensor, ways: int) -> Any:
        calls.append(1)
        return classify(x, ways) if len(calls) > 1 else first_cells(x, ways)

    with pytest.raises(UsageError, match=f"^episode 1: .*{message}"):
        evaluate(OnSums(from_the_second_episode_on), digits)


def test_a_failing_or_empty_adaptation_names_the_episode(digits: me.DoubleNMNIST) -> None:
    def fails(x: Any, y: Any, ways: int) -> Any:
        raise KeyError("weights")

    with pytest.raises(
        UsageError, match="episode 0: the learner failed in adapt: KeyError: 'weights'"
    ) as caught:
        evaluate(fails, digits)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UsageError, match="episode 0: adapt gave NoneType, expected a classifier"):
        evaluate(lambda x, y, ways: None, digits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_scores_of_any_real_dtype_count(digits: me.DoubleNMNIST, dtype: torch.dtype) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(first_cells(x, ways).argmax(dim=1), ways).to(dtype)

    assert (
        evaluate(OnSums(classify), digits).accuracy
        == evaluate(OnSums(first_cells), digits).accuracy
    )


def test_arrays_in_bfloat16_are_float32(digits: me.DoubleNMNIST) -> None:
    class Arrays:
        representation, numpy, dtype = "sum", True, "bfloat16"

        def adapt(self, x: Any, y: Any, ways: int) -> Any:
            assert x.dtype == np.float32
            return lambda query: query.reshape(len(query), -1)[:, :ways]

    class Tensors(Arrays):
        numpy = False

        def adapt(self, x: Any, y: Any, ways: int) -> Any:
            assert x.dtype == torch.bfloat16
            return lambda query: query.reshape(len(query), -1)[:, :ways]

    assert evaluate(Arrays(), digits).accuracy == evaluate(Tensors(), digits).accuracy


def test_gradients_are_recorded_to_adapt_and_not_to_classify(digits: me.DoubleNMNIST) -> None:
    seen = []

    def learner(x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
        weight = torch.zeros(1, requires_grad=True)
        (gradient,) = torch.autograd.grad((weight * x.mean()).sum(), weight)
        seen.append(gradient)

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            seen.append((weight * 2).requires_grad)
            return torch.zeros(len(query_x), ways)

        return classify

    with torch.no_grad():
        evaluate(learner, digits, episodes=1)
    assert isinstance(seen[0], torch.Tensor)
    assert seen[1] is False


class Means(ClassMeans):
    """A learner whose method is a learner too, with attributes on the object."""

    parameters = 12
    seen = {"split": "train"}  # noqa: RUF012
    overlap = "some recordings"

    def learn(self, support_x: Any, support_y: Any, ways: int) -> Any:
        return self.adapt(support_x, support_y, ways)

    @classmethod
    def of_class(cls, support_x: Any, support_y: Any, ways: int) -> Any:
        return cls().adapt(support_x, support_y, ways)


def test_functions_made_of_a_learner_keep_its_attributes(digits: me.DoubleNMNIST) -> None:
    @wraps(Means().learn)
    def wrapped(*arguments: Any) -> Any:
        return Means().learn(*arguments)

    expected = evaluate(Means(), digits)
    for learner in (Means().learn, partial(Means().learn), partial(partial(Means().adapt)),
                    Means.of_class, wrapped):  # fmt: skip
        report = evaluate(learner, digits)
        assert report.accuracy == expected.accuracy
        assert (report.parameters, report.seen, report.overlap) == (
            12,
            {"split": "train"},
            "some recordings",
        )
    assert evaluate(Means().learn, digits, episodes=1).learner.endswith("Means.learn")


class Sick:
    """A learner one of whose attributes or methods fails."""

    representation = "sum"

    def __init__(self, name: str, error: BaseException) -> None:
        self._name, self._error = name, error

    def _fail(self, name: str) -> None:
        if name == self._name:
            raise self._error

    @property
    def dtype(self) -> str:
        self._fail("dtype")
        return "float32"

    @property
    def device(self) -> str:
        self._fail("device")
        return "cpu"

    def overlap(self, dataset: Any) -> None:
        self._fail("overlap")

    def adapt(self, x: Any, y: Any, ways: int) -> Any:
        self._fail("adapt")

        def classify(query_x: torch.Tensor) -> torch.Tensor:
            self._fail("classify")
            return first_cells(query_x, ways)

        return classify


@pytest.mark.parametrize("name", ["dtype", "device", "overlap", "adapt", "classify"])
@pytest.mark.parametrize("error", [RuntimeError("lost"), SystemExit(0), MemoryError()])
def test_whatever_a_learner_raises_is_an_error_that_names_the_place(
    digits: me.DoubleNMNIST, name: str, error: BaseException
) -> None:
    """An exit status of 0 would look like success."""
    with pytest.raises(UsageError, match=rf"{name}.*{type(error).__name__}"):
        evaluate(Sick(name, error), digits)


def test_odd_attributes_are_refused(digits: me.DoubleNMNIST) -> None:
    for name, value in (
        ("representation", 3), ("layout", ["TPHW"]), ("dtype", object()), ("device", [1]),
        ("overlap", 3), ("overlap", "x" * 5000), ("overlap", "a\x1b[2J"),
    ):  # fmt: skip
        learner = ClassMeans()
        setattr(learner, name, value)
        with pytest.raises(UsageError, match=f"{name}="):
            evaluate(learner, digits)
    learner = ClassMeans()
    learner.overlap = ""  # type: ignore[attr-defined]
    assert evaluate(learner, digits, episodes=1).overlap is None


def test_numpy_is_a_truth_value(digits: me.DoubleNMNIST) -> None:
    learner = ClassMeans()
    learner.numpy = np.array([True, False])  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"numpy=.* is neither; give True or False"):
        evaluate(learner, digits)


def test_scores_beyond_float32_are_infinite_and_no_error(digits: me.DoubleNMNIST) -> None:
    def classify(x: torch.Tensor, ways: int) -> torch.Tensor:
        return first_cells(x, ways).double() * 1e300

    with np.errstate(all="raise"):
        report = evaluate(OnSums(classify), digits)
    assert report.accuracy == evaluate(OnSums(first_cells), digits).accuracy


def test_a_learner_may_want_time_first(digits: me.DoubleNMNIST) -> None:
    class TimeFirst:
        layout = "TNPHW"

        def adapt(self, x: torch.Tensor, y: torch.Tensor, ways: int) -> Any:
            assert x.shape == (100, 5, 2, 16, 32)
            means = x.sum(0).flatten(1)[y.argsort()]
            return lambda query_x: -torch.cdist(query_x.sum(0).flatten(1), means)

    report, expected = evaluate(TimeFirst(), digits), evaluate(ClassMeans(), digits)
    assert report.per_episode == expected.per_episode
    assert not report.transductive
