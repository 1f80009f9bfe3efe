"""The quick start: from simulated recordings to scored trivial baselines, in under a minute.

`metaevents quickstart` runs it. It downloads nothing.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from metaevents.errors import UsageError
from metaevents.files import PathLike, require_writable_folder, user_path

if TYPE_CHECKING:
    from metaevents.archive.reader import Archive
    from metaevents.datasets import ComposedDataset

_DATASET = "double-nmnist"
_EPISODES = 100
_BASELINES = ("chance", "prototypes", "nearest-neighbour")
_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")


def quickstart(out: PathLike | None = None) -> None:
    """Build a simulated archive, draw and time episodes, score trivial baselines, print the table.

    Args:
        out: Folder for archive, figure and reports; by default a temporary folder, which is removed
            at the end. An archive that the folder holds is used if it is simulated.

    Raises:
        UsageError: The folder holds an archive of real recordings.
    """
    from metaevents.archive.reader import Archive
    from metaevents.cache import clear_cache

    if out is not None:
        root = user_path(out).absolute()
        _refuse_real_archive(root / f"{_DATASET}.h5")
        require_writable_folder(root)
        root.mkdir(parents=True, exist_ok=True)
        _run(root, kept=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = _run(Path(folder), kept=False)
        clear_cache(Archive(path).fingerprint)


def _refuse_real_archive(path: Path) -> None:
    """Raise a UsageError if an archive exists and is not simulated."""
    from metaevents.archive.reader import Archive

    if path.exists() and not (archive := Archive(path)).simulated:
        raise UsageError(
            f"{path} holds recordings of {archive.source}, but the quick start scores simulated "
            "ones; give another folder with --out"
        )


def _run(root: Path, *, kept: bool) -> Path:
    """Run all steps in a folder; return the path of the archive.

    Args:
        root: The folder.
        kept: Whether it stays. If not, no path in it is printed: it would be gone when it is read.
    """
    from metaevents import DoubleNMNIST
    from metaevents.show import show

    start = time.perf_counter()
    print(
        "SIMULATED data: handwritten digits in front of a simulated event camera. "
        "No number here is a result on real recordings.\n"
    )
    archive = _build(root, kept)
    dataset = DoubleNMNIST(archive.path, split="test")
    figure = show(archive.path, root / "samples.png")
    if kept:
        print(f"figure    {figure}")
    _time_episodes(dataset)
    _score_baselines(dataset, root)
    print(f"\n{time.perf_counter() - start:.0f} s. Next:")
    print("\n".join(f"  {step}" for step in _next_steps(root if kept else None)))
    return archive.path


def _next_steps(root: Path | None) -> list[str]:
    """Return what a user can do next, a line each.

    Args:
        root: The folder that holds the archive; None if it is not kept.
    """
    listing = "metaevents list    # datasets, protocols and baselines"
    if root is None:
        keep = "metaevents quickstart --out data    # keep the archive, the figure and the reports"
        return [keep, listing]
    archive = shlex.quote(str(root / f"{_DATASET}.h5"))
    return [
        f"metaevents info {archive}    # what the archive holds",
        f"metaevents evaluate floor:prototypes --archive {archive} --protocol {_PROTOCOLS[0]}",
        listing,
        "metaevents download --help    # the real recordings",
    ]


def _build(root: Path, kept: bool) -> Archive:
    """The simulated archive of a folder, built if it is missing; its path is printed if kept."""
    from metaevents.archive.reader import Archive
    from metaevents.building import build_archive, open_source
    from metaevents.simulation.writers import simulate_recordings

    path = root / f"{_DATASET}.h5"
    if not path.exists():
        build_archive(_DATASET, path, open_source(_DATASET, simulate_recordings(_DATASET, root)))
    archive = Archive(path)
    print(
        f"archive   {len(archive):,} recordings ({archive.source}), "
        f"{path.stat().st_size / 1e6:.1f} MB{f': {path}' if kept else ''}"
    )
    return archive


def _time_episodes(dataset: ComposedDataset) -> None:
    """Load episodes; print how many are loaded per second, and the first one."""
    from metaevents import EpisodeLoader

    loader = EpisodeLoader(dataset, ways=5, shots=1, queries=10, episodes=_EPISODES)
    episode = loader[0]
    start = time.perf_counter()
    for _ in loader:
        pass
    per_second = len(loader) / (time.perf_counter() - start)
    print(
        f"episodes  {per_second:,.0f} per second; 5-way 1-shot, 10 queries per class; "
        f"query_x {tuple(episode.query_x.shape)}\n"
        f"          episode 0: classes {' '.join(episode.classes)}, "
        f"digest {episode.digest()[:16]}\n"
    )


def _score_baselines(dataset: ComposedDataset, root: Path) -> None:
    """Evaluate trivial baselines, write a report of each into a folder and print the table."""
    from metaevents import evaluate
    from metaevents.benchmark.trivial import TRIVIAL_BASELINES

    print(
        "accuracy +- half of the 95 % interval over fresh recordings and episodes; test split, "
        f"pairing all, {_EPISODES} episodes (fewer than the protocols have), SIMULATED\n"
    )
    print(f"{'baseline':<22}" + "".join(f"{protocol:<22}" for protocol in _PROTOCOLS))
    for name in _BASELINES:
        cells = []
        for protocol in _PROTOCOLS:
            learner = TRIVIAL_BASELINES[name](dataset)
            report = evaluate(learner, dataset, protocol, episodes=_EPISODES, progress=False)
            report.save(root / f"{name}-{protocol}.json")
            cells.append(f"{report.accuracy:.1%} +- {report.ci95:.1%}")
        print(f"{name:<22}" + "".join(f"{cell:<22}" for cell in cells))
