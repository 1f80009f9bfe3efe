"""Running experiments by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from baselines.experiments import report
from baselines.experiments.names import EXPERIMENT_MODULES
from baselines.experiments.study import Experiment, Study
from metaevents.errors import UsageError
from metaevents.files import PathLike

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        name: getattr(
            import_module(f"baselines.experiments.{module}"), name.upper().replace("-", "_")
        )
        for name, module in EXPERIMENT_MODULES.items()
    }
)
"""The experiments by name."""


def reproduce(
    experiment: str | Experiment,
    archive: PathLike,
    out: PathLike,
    *,
    command: str = "",
    **options: Any,
) -> list[Path]:
    """Run an experiment and write its results.

    An interrupted call continues where it was when it is repeated.

    Args:
        experiment: A name of `EXPERIMENTS`, or an experiment of your own.
        archive: The archive, or the folder that holds it.
        out: Folder of all output; the results go to `<dataset>/<classes>/<pairing>/` in it.
        command: The command that the results say they were made by.
        options: See `Study`.

    Returns:
        The files of the results: JSON, CSV, Markdown, PNG and SVG.

    Raises:
        UsageError: There is no such experiment, budget or device; the archive has too few
            recordings; or matplotlib is not installed.
        MissingError: There is no archive, or no run in a folder.
    """
    if isinstance(experiment, str):
        if experiment not in EXPERIMENTS:
            raise UsageError(
                f"no experiment {experiment!r}; choose one of {', '.join(EXPERIMENTS)}"
            )
        experiment = EXPERIMENTS[experiment]
    report.check_matplotlib()
    study = Study(experiment, archive, out, **options)
    rows = experiment.rows(study)
    return report.write(
        study, rows, command or f"baselines.experiments.reproduce({experiment.name!r})"
    )
