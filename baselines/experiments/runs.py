"""What every experiment is made of: an archive's splits, trained runs, cells that survive an interruption, fixed episodes.

A `Study` is one experiment being run. What it computes goes through `Study.cell`, which keeps results on disk under a key that
says all they depend on, so that the same command goes on where it was. What is computed is for the experiments' modules,
how it is written for `report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from baselines.config import RunConfig
from baselines.experiments.accuracy import Row, rounded
from baselines.learners import Baseline
from baselines.maml import MAML
from baselines.transfer import Transfer
from metaevents.errors import MissingError
from metaevents.files import PathLike


@dataclass(frozen=True)
class Trained:
    """A trained run: its learner, and a digest of its weights."""

    learner: Baseline
    digest: str

    @property
    def config(self) -> RunConfig:
        return self.learner.config

    @property
    def maml(self) -> MAML:
        return cast(MAML, self.learner.model)

    @property
    def transfer(self) -> Transfer:
        return cast(Transfer, self.learner.model)

    def summary(self) -> Row:
        """What outputs say of it."""
        config, record = self.config, self.learner.record
        measured = dict(record.measured or {})
        return {
            "model": config.model, "recipe": config.recipe, "pairing": config.pairing, "classes": config.classes,
            "ways": config.ways if config.kind.method == "maml" else None, "seed": config.seed, "step": record.step,
            "steps": config.steps, "val_accuracy": rounded(measured.get("val_accuracy")), "source": record.source,
            "weights": self.digest[:16],
        }  # fmt: skip


def weights_files(places: Iterable[PathLike]) -> Iterator[Path]:
    for place in map(Path, places):
        place = place.expanduser()
        if place.is_file():
            yield place
            continue
        found = sorted({*place.glob("*.safetensors"), *place.rglob("best.safetensors")})
        if not found:
            raise MissingError(
                f"no trained runs in {place}; give the folder of one that `python -m baselines train` made"
            )
        yield from found
