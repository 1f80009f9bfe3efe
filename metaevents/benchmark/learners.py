"""How a learner is called: what it gets, what it may answer, and the random generators around it.

A learner is any object with `adapt(support_x, support_y, ways) -> classifier`, or a function of that shape; `classifier(query_x)`
gives scores [n, ways]. Optional attributes say what it wants and what it can tell:

    representation, layout, dtype, device   as for `EpisodeLoader`; dtype may be a string ("uint8")
    numpy                                   True for numpy arrays instead of tensors
    parameters                              their number, or what holds them (a module, tensors), or a function that gives either
    spikes_per_sample,
    synaptic_operations_per_sample          numbers, or functions that give them, read after the last episode; means over all
                                            samples seen
    seen, overlap                           what the weights were trained on (a dictionary), what of the test was among it (text);
                                            `overlap` may be a function of the dataset, which may refuse it (UsageError)

When learners are run, and on what, is left to `metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode
from metaevents.errors import UsageError

if TYPE_CHECKING:
    import torch

Classifier: TypeAlias = Callable[[Any], Any]


class Runner:
    """A learner, called as the contract says and checked at every answer.

    Attributes:
        learner: what was given.
        name: its import path: module and class, or module and function.
        loader_options: what `EpisodeLoader` has to know about it.
        device: where it wants its input; "cpu" by default.
        numpy: whether it wants numpy arrays.
    """

    def __init__(self, learner: Any) -> None:
        adapt = learner if inspect.isroutine(learner) else getattr(learner, "adapt", learner)
        if isinstance(learner, type) or not callable(adapt):
            what = f"the class {learner.__name__}" if isinstance(learner, type) else repr(learner)
            raise UsageError(
                f"{what} is no learner; give an object with adapt(support_x, support_y, ways), or such a function"
            )
        import torch

        self.learner = learner
        self._adapt = adapt
        named = learner if hasattr(learner, "__qualname__") else type(learner)
        self.name = f"{named.__module__}.{named.__qualname__}"
        self.numpy = bool(getattr(learner, "numpy", False))
        try:
            self.device = torch.device(getattr(learner, "device", None) or "cpu")
            torch.empty(0, device=self.device)
        except (RuntimeError, TypeError, AssertionError):
            raise UsageError(
                f"{self.name} wants device={learner.device!r}; give one that is here, such as 'cpu'"
            ) from None
        self.loader_options: dict[str, Any] = {
            "representation": getattr(learner, "representation", "frames"),
            "layout": getattr(learner, "layout", "TPHW"),
            "dtype": _torch_dtype(getattr(learner, "dtype", None)),
        }

    def place(self, episode: Episode) -> Episode:
        """The episode where the learner wants it."""
        return episode if self.device.type == "cpu" else episode.to(self.device)

    def adapt(self, episode: Episode, ways: int) -> Classifier:
        """Let the learner adapt to an episode's support.

        Raises:
            UsageError: it failed, or gave something that cannot classify; names the episode.
        """
        import torch

        given = (
            episode.numpy()
            if self.numpy
            else {"support_x": episode.support_x, "support_y": episode.support_y}
        )
        with torch.enable_grad(), _naming(episode, "adapt"):
            classifier = self._adapt(given["support_x"], given["support_y"], ways)
        if not callable(classifier):
            raise UsageError(
                f"episode {episode.index}: adapt gave {type(classifier).__name__}, expected a classifier: something to call with "
                "query_x that gives scores [n, ways]"
            )
        return classifier  # type: ignore[no-any-return]

    def scores(
        self, classifier: Classifier, query_x: Any, episode: Episode, ways: int
    ) -> np.ndarray:
        """A classifier's scores for queries, checked; [n, ways] float64. No gradients are recorded.

        Raises:
            UsageError: it failed, or its scores have a wrong shape, are no real numbers, are NaN or lie on another device; names
                the episode.
        """
        import torch

        if self.numpy and isinstance(query_x, torch.Tensor):
            query_x = query_x.cpu().numpy()
        with torch.no_grad(), _naming(episode, "classify"):
            answer = classifier(query_x)
        return _checked(answer, len(query_x), ways, self.device, episode)

    def synchronize(self) -> None:
        """Wait until a GPU has done what it was asked to, so that a clock can be read."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def offers(self, name: str) -> Any:
        """What the learner tells of itself: an attribute, or what the method of that name gives; None where it has neither.

        Raises:
            UsageError: the method failed.
        """
        try:
            value = getattr(self.learner, name, None)
            return value() if callable(value) and not _is_module(value) else value
        except Exception as error:
            raise UsageError(
                f"the learner's {name} failed: {type(error).__name__}: {error}"
            ) from error

    def overlap(self, dataset: ComposedDataset) -> str | None:
        """What of a test the learner's weights have seen, as it tells; asked before the first episode.

        Raises:
            UsageError: the learner refuses this test, or told something that is no text.
        """
        told = getattr(self.learner, "overlap", None)
        found = (
            told(dataset) if callable(told) and not takes_nothing(told) else self.offers("overlap")
        )
        if not isinstance(found, str | None):
            raise UsageError(f"overlap={found!r}; offer a text, or None for nothing")
        return found

    def parameters(self) -> int | None:
        """The number of parameters, where the learner offers them."""
        return _count(self.offers("parameters"))


def _torch_dtype(value: Any) -> torch.dtype | None:
    import torch

    if value is None or isinstance(value, torch.dtype):
        return value
    name = value.removeprefix("torch.") if isinstance(value, str) else np.dtype(value).name
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"dtype={value!r}; choose float32, float16 or uint8")
    return dtype


@contextmanager
def _naming(episode: Episode, doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"episode {episode.index}: the learner failed in {doing}: {type(error).__name__}: {error}"
        ) from error


def _checked(answer: Any, n: int, ways: int, device: torch.device, episode: Episode) -> np.ndarray:
    import torch

    def refuse(what: str) -> UsageError:
        return UsageError(
            f"episode {episode.index}: the classifier gave {what}; return scores [{n}, {ways}], one a class"
        )

    if isinstance(answer, torch.Tensor):
        same_kind = answer.device.type == device.type
        if not same_kind or (device.index is not None and answer.device.index != device.index):
            raise UsageError(
                f"episode {episode.index}: the scores are on {answer.device}, the queries were on {device}; return them there, "
                "or say with the attribute `device` where the learner works"
            )
        answer = answer.detach().cpu()
        if answer.is_floating_point():
            answer = answer.double()  # numpy knows no bfloat16
    try:
        scores = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError):
        raise refuse(f"{type(answer).__name__} that is no array") from None
    if scores.dtype.kind not in "fiub":
        raise refuse(f"{scores.dtype} {list(scores.shape)}")
    if scores.shape == (n,) and scores.dtype.kind in "iu":
        raise refuse(f"whole numbers [{n}], as if they were class ids")
    if scores.shape != (n, ways):
        raise refuse(f"shape {list(scores.shape)}")
    if np.isnan(scores).any():
        raise refuse(f"NaN for {int(np.isnan(scores).any(axis=1).sum())} of {n} queries")
    return scores.astype(np.float64)


def _is_module(value: Any) -> bool:
    return hasattr(value, "state_dict")


def _count(held: Any) -> int | None:
    """How many numbers there are in a module, tensors, arrays, or containers of them; a number stands for itself."""
    if held is None or isinstance(held, (int, np.integer)):
        return None if held is None else int(held)
    if _is_module(held):
        held = held.parameters()
    if hasattr(held, "shape"):
        return int(np.prod(held.shape))
    if isinstance(held, Mapping):
        held = held.values()
    if isinstance(held, Iterable):
        return sum(_count(part) or 0 for part in held)
    raise UsageError(f"parameters={held!r}; offer their number, a module, or tensors")


def takes_nothing(function: Callable[..., Any]) -> bool:
    needed = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    parameters = inspect.signature(function).parameters.values()
    return all(p.kind not in needed or p.default is not p.empty for p in parameters)
