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

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from metaevents.benchmark.learners import takes_nothing
from metaevents.datasets import ComposedDataset
from metaevents.errors import UsageError


def load_learner(where: str, dataset: ComposedDataset) -> Any:
    """The learner at an import path.

    Args:
        where: "module:attribute", an object or a function that learns, or a class or function without arguments that gives one;
            or "floor:name", one of `metaevents.benchmark.trivial.TRIVIAL_BASELINES`. Modules of the working folder are found too.
        dataset: what it will be evaluated on; floors are made for it.

    Raises:
        UsageError: nothing there, or nothing that learns.
    """
    module, _, attribute = where.partition(":")
    if not module or not attribute:
        raise UsageError(
            f"learner {where!r}; give module:attribute, such as my_method:Learner, or floor:prototypes"
        )
    if module == "floor":
        from metaevents.benchmark.trivial import TRIVIAL_BASELINES

        if attribute not in TRIVIAL_BASELINES:
            raise UsageError(
                f"no floor {attribute!r}; choose one of {', '.join(TRIVIAL_BASELINES)}"
            )
        return TRIVIAL_BASELINES[attribute](dataset)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"learner {where!r}: {error}; give module:attribute, importable from here"
        ) from error
    if isinstance(found, type) or (inspect.isroutine(found) and takes_nothing(found)):
        try:
            return found()
        except Exception as error:
            raise UsageError(
                f"learner {where!r} could not be made: {type(error).__name__}: {error}"
            ) from error
    return found
