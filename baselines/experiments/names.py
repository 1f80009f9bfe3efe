"""The table of experiments, the only list of their names. It is cheap to import, for `--help`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXPERIMENT_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "table2": "table2",
        "fig3": "fig3_fig4",
        "fig4": "fig3_fig4",
        "table3": "table3_fig5",
        "fig5": "table3_fig5",
        "fig6": "fig6",
        "quantization": "quantization",
        "plasticity": "plasticity",
        "direct-feedback": "direct_feedback",
        "reptile": "reptile",
        "online": "online",
        "relearning": "relearning",
    }
)
"""Name of an experiment -> module of this package that defines it, as a constant named like the
experiment in capitals, with "_" for "-" (`fig3_fig4.FIG3`)."""
