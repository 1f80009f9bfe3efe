"""The weights that ship, and a card for each: what it was trained on, how it learned, what it scores.

Cards are written from the weights' own record and the leaderboard's entries, so that they cannot say anything else than those.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from baselines.learners import SHIPPED, from_weights
from baselines.provenance import Seen
from baselines.training.folder import learning_curve
from baselines.training.loop import val_ways
from baselines.weights_file import Weights, read_weights
from metaevents.datasets import load
from metaevents.episodes import EpisodeLoader
from metaevents.errors import UsageError
from metaevents.files import PathLike

TEST_STEPS = (1, 3, 5)


def publish(run: PathLike, archive: PathLike | None = None, folder: Path | None = None) -> Path:
    """Copy a run's best weights, with its whole learning curve, to where `baselines.load` finds them.

    Args:
        run: the run's folder.
        archive: choose the number of inner steps at test on its val split first (MAML only); the record keeps what each gave.
        folder: another place.
    """
    run, folder = Path(run).expanduser(), folder or SHIPPED
    curve = learning_curve(run)
    weights = read_weights(run / "best.safetensors")
    if archive is not None and weights.config.kind.method == "maml":
        weights = _with_test_steps(weights, run, archive)
    path = folder / weights.config.file_name
    folder.mkdir(parents=True, exist_ok=True)
    replace(weights, record=replace(weights.record, curve=tuple(curve))).save(path)
    return path


def _with_test_steps(weights: Weights, path: Path, archive: PathLike) -> Weights:
    """The weights with the number of inner steps that is best on validation episodes."""
    from tqdm import tqdm

    config = weights.config
    val = load(config.dataset, archive, "val", pairing=config.pairing, classes=config.classes)
    if not set(Seen.of(val).recordings) <= set(weights.record.chosen.recordings):
        raise UsageError(
            f"{path} was chosen on other recordings than {archive} has for validation; give its own archive"
        )
    found = {}
    for steps in tqdm(TEST_STEPS, desc="inner steps", disable=None):
        learner = from_weights(replace(weights, config=replace(config, test_steps=steps)), path)
        episodes = EpisodeLoader(
            val, val_ways(val, config), config.shots, config.queries, episodes=config.val_episodes, seed=config.seed + 1,
            representation=learner.representation,
        )  # fmt: skip
        hits = [
            (
                learner.adapt(e.support_x, e.support_y, config.ways)(e.query_x).argmax(-1)
                == e.query_y
            )
            .double()
            .mean()
            for e in episodes
        ]
        found[steps] = float(sum(hits) / len(hits))
    best = max(found, key=lambda steps: found[steps])  # the fewest of equals
    measured = {
        **(weights.record.measured or {}),
        **{f"val_accuracy_{k}_steps": v for k, v in found.items()},
    }
    record = replace(weights.record, measured=measured)
    return replace(weights, config=replace(config, test_steps=best), record=record)
