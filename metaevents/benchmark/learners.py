"""The interface of a learner, and `Runner`, which calls a learner and checks its answers.

A learner is any object with `adapt(support_x, support_y, ways) -> classifier`, or a function with
that signature; `classifier(query_x)` returns scores [n, ways]. Optional attributes say which input
the learner wants and report on it. A bound method has those of its object:

    representation, layout, bins, dtype
        As for `EpisodeLoader`. `dtype` may be a string ("uint8").
    device
        Where the learner wants its input. Episodes are made on the CPU and moved there.
    numpy
        True for NumPy arrays instead of tensors; bfloat16 becomes float32.
    parameters
        The number of parameters, or their holder (a module, tensors), or a method that returns
        either.
    spikes_per_sample, synaptic_operations_per_sample
        Numbers, or methods that return them: means over all samples seen. They are read after the
        last episode.
    costs
        What one sample and one adaptation cost: spikes, operations and memory. A dictionary, or a
        method that returns one; `metaevents.benchmark.learner_metrics` describes both.
    seen
        What the weights were trained on: a dictionary.
    overlap
        What of the test data the weights were trained on: a text, or a method that returns it. A
        method with an argument gets the dataset, and may refuse it with a UsageError.

On which episodes a learner is run is left to `metaevents.benchmark.evaluation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from metaevents.arguments import shown, whole_number
from metaevents.datasets import ComposedDataset
from metaevents.episodes import Episode, to_array
from metaevents.errors import MetaeventsError, UsageError, printable
from metaevents.frames import torch_dtype

if TYPE_CHECKING:
    import torch

_MAX_TEXT = 4000  # characters of a text in an entry
_MAX_PARAMETERS = 10**15
_MAX_SOURCES = 16

Classifier: TypeAlias = Callable[[Any], Any]


class Runner:
    """Calls a learner as the interface prescribes, and checks every answer.

    Args:
        learner: An object or function as the module's docstring describes it.

    Attributes:
        learner: The learner.
        name: Its import path: module and class, or module and function.
        loader_options: The learner's options for `EpisodeLoader`.
        sample_axis: The axis of the samples in `support_x` and `query_x`.
        device: The device that the learner works on, "cpu" by default.
        numpy: Whether the learner wants numpy arrays.

    Raises:
        UsageError: The object is no learner, or its device or dtype does not exist.
    """

    def __init__(self, learner: Any) -> None:
        import torch

        self.learner = learner
        self._iterator: tuple[Any, int | None] | None = None
        self._sources = _attribute_sources(learner)
        is_function = inspect.isroutine(learner) or isinstance(learner, partial)
        adapt = learner if is_function else self.attribute("adapt", learner)
        if isinstance(learner, type) or not callable(adapt):
            what = f"the class {learner.__name__}" if isinstance(learner, type) else repr(learner)
            raise UsageError(
                f"{what[:200]} is no learner; give an object with adapt(support_x, support_y, "
                "ways), or a function with these arguments"
            )
        self._adapt = adapt
        named = [source for source in self._sources if hasattr(source, "__qualname__")]
        definition = named[0] if named and is_function else type(learner)
        self.name = f"{definition.__module__}.{definition.__qualname__}"[:300]
        self.numpy = self._truth("numpy")
        device = self.attribute("device")
        try:
            self.device = torch.device("cpu" if device is None else device)
            torch.empty(0, device=self.device)
        except Exception:
            raise UsageError(
                f"{self.name} wants device={device!r}, which does not exist here; give one that "
                "does, such as 'cpu'"
            ) from None
        self.loader_options: dict[str, Any] = {
            "representation": self._word("representation", "frames"),
            "layout": self._word("layout", "TPHW"),
            "bins": self.attribute("bins"),
            "dtype": torch_dtype(self.attribute("dtype")),
        }
        self.sample_axis = 1 if self.loader_options["layout"] == "TNPHW" else 0

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the learner as it is.

        A bound method has the attributes of its object too, and a `functools.partial` has those of
        its function.

        Args:
            name: Name of the attribute.
            default: What to return if there is none.

        Raises:
            UsageError: Reading it failed, as a property can.
        """
        for source in self._sources:
            try:
                value = getattr(source, name, _MISSING)
            except (Exception, SystemExit) as error:
                raise _failed(name, error) from error
            # Of a class that a class method is bound to, a function would lack its object.
            if value is not _MISSING and not (isinstance(source, type) and callable(value)):
                return value
        return default

    def _truth(self, name: str) -> bool:
        """Return whether an attribute is there and true."""
        value = self.attribute(name, False)
        try:
            return bool(value)
        except Exception:  # an array, or whatever a user's own class raises
            raise UsageError(f"{name}={shown(value)} is neither; give True or False") from None

    def _word(self, name: str, default: str) -> str:
        """Return an attribute that is text."""
        value = self.attribute(name, default)
        if not isinstance(value, str):
            raise UsageError(f"{name}={shown(value)} is no text; give one such as {default!r}")
        return value

    def place(self, episode: Episode) -> Episode:
        """Return the episode on the learner's device."""
        return episode if self.device.type == "cpu" else episode.to(self.device)

    def adapt(self, episode: Episode, ways: int) -> Classifier:
        """Let the learner adapt to the support of an episode.

        Args:
            episode: The episode, on the learner's device.
            ways: Classes per episode.

        Returns:
            The learner's classifier.

        Raises:
            UsageError: The learner failed, or returned something that cannot be called. The
                message names the episode.
        """
        import torch

        arrays = (
            episode.numpy()
            if self.numpy
            else {"support_x": episode.support_x, "support_y": episode.support_y}
        )
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            _naming_episode(episode, "adapt"),
        ):
            classifier = self._adapt(arrays["support_x"], arrays["support_y"], ways)
        if not callable(classifier):
            raise UsageError(
                f"episode {episode.index}: adapt gave {type(classifier).__name__}, expected a"
                " classifier; return a function that maps query_x to scores [n, ways]"
            )
        return classifier  # type: ignore[no-any-return]

    def scores(
        self, classifier: Classifier, query_x: Any, episode: Episode, ways: int
    ) -> np.ndarray:
        """Classify queries without recording gradients, and check the scores.

        Args:
            classifier: What `adapt` returned.
            query_x: n queries: a tensor, or a list of event arrays.
            episode: The episode, for messages.
            ways: Classes per episode.

        Returns:
            [n, ways] float64.

        Raises:
            UsageError: The classifier failed, or its scores have a wrong shape, are not real
                numbers, contain NaN or lie on another device. The message names the episode.
        """
        import torch

        if self.numpy:
            query_x = to_array(query_x)
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            _naming_episode(episode, "classify"),
        ):
            answer = classifier(query_x)
        n = query_x.shape[1] if self.sample_axis else len(query_x)
        return _checked_scores(answer, n, ways, self.device, episode)

    def measure(self, episode: Episode, ways: int, queries: int) -> Any:
        """Let the learner's method `costs` measure on an episode what it costs.

        Args:
            episode: The episode, on the learner's device.
            ways: Classes per episode.
            queries: Number of queries, the first of the episode, at most.

        Returns:
            What the method returned.

        Raises:
            UsageError: The method failed. The message names the episode.
        """
        import torch

        query_x = episode.query_x
        query_x = query_x[:, :queries] if self.sample_axis else query_x[:queries]
        arguments: list[Any] = [episode.support_x, episode.support_y, query_x]
        if self.numpy:
            arguments = [to_array(each) for each in arguments]
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            _naming_episode(episode, "costs"),
        ):
            return self.attribute("costs")(*arguments, ways)

    def synchronize(self) -> None:
        """Wait until the learner's GPU, if it has one, has finished; then a clock can be read."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def read_attribute(self, name: str) -> Any:
        """Return an optional attribute of the learner.

        Args:
            name: Name of the attribute.

        Returns:
            Its value, or the return value of the method of that name; None if there is neither.

        Raises:
            AttributeFailedError: The method failed.
        """
        value = self.attribute(name)
        if not callable(value) or _is_module(value):
            return value
        try:
            return value()
        except (Exception, SystemExit) as error:
            raise _failed(name, error) from error

    def overlap(self, dataset: ComposedDataset) -> str | None:
        """Ask the learner what of a test its weights were trained on.

        Args:
            dataset: The test split.

        Returns:
            The learner's answer; None if it reports no overlap.

        Raises:
            UsageError: The learner refuses this test, or its answer is not text.
        """
        attribute = self.attribute("overlap")
        if callable(attribute) and not takes_no_arguments(attribute):
            try:
                overlap = attribute(dataset)
            except MetaeventsError:
                raise
            except (Exception, SystemExit) as error:
                raise _failed("overlap", error) from error
        else:
            overlap = self.read_attribute("overlap")
        if not isinstance(overlap, str | None):
            raise UsageError(f"overlap={overlap!r:.80}; offer a text, or None for no overlap")
        if overlap and (len(overlap) > _MAX_TEXT or printable(overlap) != overlap):
            raise UsageError(
                f"overlap={overlap[:60]!r} is {len(overlap):,} characters long or has control "
                f"characters; offer a text of at most {_MAX_TEXT:,} visible characters"
            )
        return overlap if overlap and overlap.strip() else None

    def parameters(self) -> int | None:
        """Return the number of parameters; None if the learner does not offer them.

        Raises:
            UsageError: The learner's method failed, or it offers something else.
        """
        offered = self.attribute("parameters")
        if isinstance(offered, Iterator):  # it can be read once
            if self._iterator is None or self._iterator[0] is not offered:
                self._iterator = offered, _count_parameters(offered)
            return self._iterator[1]
        return _count_parameters(self.read_attribute("parameters"))


class AttributeFailedError(UsageError):
    """An attribute or a method that reports on a learner raised an exception."""


_MISSING = object()


def _failed(name: str, error: BaseException) -> AttributeFailedError:
    """Return the error for an attribute that could not be read."""
    return AttributeFailedError(f"the learner's {name} failed: {type(error).__name__}: {error}")


def _attribute_sources(learner: Any) -> list[Any]:
    """Return a learner and what it was made from: where its attributes may be."""
    sources = [learner]
    for _ in range(_MAX_SOURCES):
        last = sources[-1]
        if isinstance(last, partial):
            sources.append(last.func)
        elif inspect.ismethod(last):
            sources.append(last.__self__)
        elif inspect.isfunction(last) and hasattr(last, "__wrapped__"):
            sources.append(last.__wrapped__)
        else:
            break
    return sources


@contextmanager
def _naming_episode(episode: Episode, action: str) -> Iterator[None]:
    """Turn any exception of a learner into a UsageError that names the episode."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"episode {episode.index}: the learner failed in {action}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _checked_scores(
    answer: Any, n: int, ways: int, device: torch.device, episode: Episode
) -> np.ndarray:
    """Return a classifier's answer as [n, ways] float64, or raise a UsageError."""
    import torch

    def unfit(what: str) -> UsageError:
        return UsageError(
            f"episode {episode.index}: the classifier gave {what}; return scores [{n}, {ways}], "
            "one per class"
        )

    if isinstance(answer, torch.Tensor):
        same_type = answer.device.type == device.type
        if not same_type or (device.index is not None and answer.device.index != device.index):
            raise UsageError(
                f"episode {episode.index}: the scores are on {answer.device}, the queries were on "
                f"{device}; return them there, or set the learner's attribute `device`"
            )
    try:
        if isinstance(answer, torch.Tensor):
            answer = answer.detach().cpu()
            if answer.is_floating_point():
                answer = answer.double()  # numpy has no bfloat16
        scores = np.asarray(answer)
    except Exception:  # sparse tensors, ragged lists, arrays of other packages
        raise unfit(f"{type(answer).__name__} that is no array") from None
    if scores.dtype.kind not in "fiub":
        raise unfit(f"{scores.dtype} {list(scores.shape)}")
    if scores.shape == (n,) and scores.dtype.kind in "iu":
        raise unfit(f"whole numbers [{n}], as if they were class ids")
    if scores.shape != (n, ways):
        raise unfit(f"shape {list(scores.shape)}")
    if np.isnan(scores).any():
        raise unfit(f"NaN for {int(np.isnan(scores).any(axis=1).sum())} of {n} queries")
    return scores.astype(np.float64)


def _is_module(value: Any) -> bool:
    """Return whether a value is a torch module or something alike."""
    return hasattr(value, "state_dict")


def _count_parameters(parameters: Any) -> int | None:
    """Return the number of parameters that a learner offers; None stands for itself."""
    if parameters is None:
        return None
    try:
        number = _count(parameters)
    except (Exception, SystemExit) as error:
        if isinstance(error, UsageError):
            raise
        raise AttributeFailedError(
            f"the learner's parameters cannot be counted ({type(error).__name__}: {error}); offer "
            "their number, a module, or tensors"
        ) from error
    return whole_number("the learner's parameters", number, least=0, most=_MAX_PARAMETERS)


def _count(parameters: Any) -> int:
    """Return the number of elements in a module, tensors, arrays, or nested containers of them.

    A number stands for itself, None for nothing.
    """
    if parameters is None:
        return 0
    if isinstance(parameters, (int, np.integer)) and not isinstance(parameters, bool):
        return int(parameters)
    if _is_module(parameters):
        parameters = parameters.parameters()
    if hasattr(parameters, "shape"):
        return int(np.prod(parameters.shape))
    if isinstance(parameters, Mapping):
        parameters = parameters.values()
    if isinstance(parameters, Iterable) and not isinstance(parameters, (str, bytes, bytearray)):
        return sum(map(_count, parameters))
    raise UsageError(f"parameters={parameters!r:.80}; offer their number, a module, or tensors")


def takes_no_arguments(function: Callable[..., Any]) -> bool:
    """Return whether a function can be called without arguments."""
    needed = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled functions may have none
        return False
    return all(p.kind not in needed or p.default is not p.empty for p in parameters)
