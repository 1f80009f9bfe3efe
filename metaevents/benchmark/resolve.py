"""Finding the learner that a command line names.

How a learner is called is left to `metaevents.benchmark.learners`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

from metaevents.benchmark.learners import takes_no_arguments
from metaevents.benchmark.trivial import TRIVIAL_BASELINES
from metaevents.datasets import ComposedDataset
from metaevents.errors import MetaeventsError, UsageError
from metaevents.global_state import generators_restored, seed_generators

_PACKAGE = str(Path(__file__).parents[1])


def load_learner(path: str, dataset: ComposedDataset) -> Any:
    """Return the learner at an import path.

    The module is imported, and the learner made, with the global random generators of torch, NumPy
    and Python seeded with 0. So random weights are the same in every run and in every process.

    Args:
        path: "module:attribute", where the attribute is a learner, or a class or function without
            arguments that returns one. Modules in the working folder are found too. Or
            "floor:NAME", where NAME is a key of `metaevents.benchmark.trivial.TRIVIAL_BASELINES`.
        dataset: The dataset that the learner will be evaluated on; trivial baselines are made for
            it.

    Returns:
        The object at the path, or what it returned. Whether it is a learner is not checked.

    Raises:
        UsageError: There is no such module, attribute or baseline, or a class or function failed.
    """
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise UsageError(
            f"learner {path!r}; give module:attribute, such as my_method:Learner, or a trivial"
            " baseline, such as floor:prototypes"
        )
    if module == "floor":
        if attribute not in TRIVIAL_BASELINES:
            raise UsageError(
                f"no trivial baseline {attribute!r}; choose one of {', '.join(TRIVIAL_BASELINES)}"
            )
        return TRIVIAL_BASELINES[attribute](dataset)
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with generators_restored():
        seed_generators(0)
        return _made(path, module, attribute)


def _made(path: str, module: str, attribute: str) -> Any:
    """Return the object at an import path, or what it returns; see `load_learner`."""
    try:
        learner: Any = importlib.import_module(module)
        for name in attribute.split("."):
            learner = getattr(learner, name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"learner {path!r}: {error}{_place(error)}; give module:attribute, importable from "
            "this folder"
        ) from error
    except (Exception, SystemExit) as error:  # the module's own
        raise UsageError(
            f"learner {path!r} could not be imported: {type(error).__name__}: {error}"
            f"{_place(error)}; correct the module"
        ) from error
    if isinstance(learner, type) or (inspect.isroutine(learner) and takes_no_arguments(learner)):
        try:
            return learner()
        except MetaeventsError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"learner {path!r} could not be made: {type(error).__name__}: {error}"
                f"{_place(error)}"
            ) from error
    return learner


def _place(error: BaseException) -> str:
    """The file and line of an error, unless its message or this package has them already."""
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith((_PACKAGE, "<"))]
    outside = [frame for frame in outside if Path(frame.filename) != Path(importlib.__file__)]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""
