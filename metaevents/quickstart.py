"""`metaevents quickstart`: the whole way from recordings to a score on simulated data, in under a minute."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

_ARCHIVE = "double-nmnist.h5"
_EPISODES = 100
_FLOORS = ("chance", "prototypes", "nearest-neighbour")
_PROTOCOLS = ("sample-5way-1shot", "sample-5way-5shot")


def quickstart(out: Path | None = None) -> None:
    """Simulate recordings, build the archive, draw and time episodes, score floor methods, and print the table.

    Args:
        out: where archive, figure and report stay; a temporary folder, removed at the end, by default.
    """
    from metaevents.archive.reader import Archive
    from metaevents.cache import clear_cache

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _run(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder))
        clear_cache(Archive(Path(folder) / _ARCHIVE).fingerprint)
    print("Run it with --out DIR to keep the archive, the figure and the report.")


def _run(root: Path) -> None:
    from metaevents import DoubleNMNIST, EpisodeLoader, evaluate
    from metaevents.archive.reader import Archive
    from metaevents.benchmark import trivial
    from metaevents.building import build_archive, open_source
    from metaevents.show import show
    from metaevents.simulation.writers import simulate_recordings

    started = time.perf_counter()
    print(
        "SIMULATED data: handwritten digits before a model of an event camera; no figure here says anything about real ones.\n"
    )
    path = root / _ARCHIVE
    if not path.exists():
        source = open_source("double-nmnist", simulate_recordings("double-nmnist", root))
        build_archive("double-nmnist", path, source)
    archive = Archive(path)
    print(
        f"archive   {len(archive):,} recordings ({archive.source}), {path.stat().st_size / 1e6:.1f} MB: {path}"
    )
    dataset = DoubleNMNIST(path, split="test")
    print(f"figure    {show(path, root / 'samples.png')}")
    loader = EpisodeLoader(dataset, ways=5, shots=1, queries=10, episodes=_EPISODES)
    episode = loader[0]
    begin = time.perf_counter()
    for _ in loader:
        pass
    rate = len(loader) / (time.perf_counter() - begin)
    print(
        f"episodes  {rate:,.0f} a second, 5-way 1-shot, 10 queries; query_x {tuple(episode.query_x.shape)}"
    )
    print(
        f"          episode 0: classes {' '.join(episode.classes)}, digest {episode.digest()[:16]}\n"
    )
    print(
        f"test split, pairing all, {_EPISODES} episodes (fewer than the protocols have), accuracy +- 95 %, SIMULATED\n"
    )
    print(f"{'method':<22}" + "".join(f"{protocol:<22}" for protocol in _PROTOCOLS))
    for name in _FLOORS:
        cells = []
        for protocol in _PROTOCOLS:
            report = evaluate(
                trivial.TRIVIAL_BASELINES[name](dataset),
                dataset,
                protocol,
                episodes=_EPISODES,
                progress=False,
            )
            report.save(root / f"{name}-{protocol}.json")
            cells.append(f"{report.accuracy:.1%} +- {report.ci95:.1%}")
        print(f"{name:<22}" + "".join(f"{cell:<22}" for cell in cells))
    print(
        f"\n{time.perf_counter() - started:.0f} s. Next, in the README: real recordings, a learner of your own, the leaderboard."
    )
