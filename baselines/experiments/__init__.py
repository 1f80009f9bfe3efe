"""The paper's tables and figures, each an entry of `EXPERIMENTS`; `python -m baselines reproduce` runs them.

An experiment gives rows and draws them (`study.Experiment`); archives, trained runs, cached results and files are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from baselines.experiments import report
from baselines.experiments.accuracy import accuracy
from baselines.experiments.fig3_fig4 import FIG3, FIG4
from baselines.experiments.fig6 import FIG6
from baselines.experiments.plasticity import PLASTICITY, plasticity
from baselines.experiments.quantization import QUANTIZATION
from baselines.experiments.study import BUDGETS, Budget, Experiment, Study
from baselines.experiments.table2 import TABLE2
from baselines.experiments.table3_fig5 import FIG5, TABLE3
from baselines.experiments.variants import variant
from metaevents.errors import UsageError
from metaevents.files import PathLike

__all__ = [
    "BUDGETS",
    "EXPERIMENTS",
    "Budget",
    "Experiment",
    "Study",
    "accuracy",
    "plasticity",
    "reproduce",
    "variant",
]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {each.name: each for each in (TABLE2, FIG3, FIG4, TABLE3, FIG5, FIG6, QUANTIZATION, PLASTICITY)}
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
    """Run an experiment; returns the files that it wrote: JSON, CSV, Markdown, PNG and SVG.

    Interrupted, the same call goes on where it was.

    Args:
        experiment: a name of `EXPERIMENTS`, or one of your own.
        archive, out, options: see `Study`.
        command: what the files say they were made by.

    Raises:
        UsageError, MissingError: no such experiment, archive, runs or device; the archive has too few recordings.
    """
    if isinstance(experiment, str):
        if experiment not in EXPERIMENTS:
            raise UsageError(
                f"no experiment {experiment!r}; choose one of {', '.join(EXPERIMENTS)}"
            )
        experiment = EXPERIMENTS[experiment]
    report.check_matplotlib()
    study = Study(experiment, archive, out, **options)
    rows: Sequence[dict[str, Any]] = experiment.rows(study)
    return report.write(
        study, rows, command or f"baselines.experiments.reproduce({experiment.name!r})"
    )
