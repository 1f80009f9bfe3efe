"""Simulated recordings: an event-camera pixel model, and two writers of files in the official forms.

For quick starts, tests and documentation: `write_nmnist` moves real handwritten digits along the three saccades of N-MNIST,
`write_asl_dvs` moves drawn hands, and both leave files that `NMNIST` and `ASLDVS` read like the real ones. Reading is left to
them. No result on simulated recordings says anything about the real datasets.

The same arguments give the same events on every platform, with every version of numpy and any number of jobs. So chance comes
from raw words of a counter-based generator (whose stream numpy never changes, unlike its distributions); time, space and light
are whole numbers; and what is drawn in floating point uses + - * / and square roots alone, which IEEE 754 fixes to the last bit.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metaevents.errors import UsageError
from metaevents.events import Events
from metaevents.rng import WordStream
from metaevents.simulation.digits import digit_recordings, handwriting
from metaevents.simulation.hands import HAND_SIZE, HANDSHAPES, SUBJECTS, hand_recording
from metaevents.sources.base import SIMULATED_MARK

_BATCH = 16
"""N-MNIST recordings that are simulated together."""


def simulate_recordings(
    dataset: str,
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Simulated recordings enough for the archive of a built-in dataset, in a folder of their own below `root`.

    Args:
        dataset: "double-nmnist" or "double-asl-dvs".
        root: made if it is missing.
        seed, progress, jobs: see `write_nmnist`.

    Returns:
        The folder.

    Raises:
        UsageError: another dataset, or what the writers raise.
    """
    writers: dict[str, tuple[str, Callable[..., Path]]] = {
        "double-nmnist": ("simulated-nmnist", write_nmnist),
        "double-asl-dvs": ("simulated-asl-dvs", write_asl_dvs),
    }
    if dataset not in writers:
        raise UsageError(
            f"no simulated recordings for {dataset!r}; choose from {', '.join(writers)}"
        )
    folder, write = writers[dataset]
    return write(Path(root).expanduser() / folder, seed=seed, progress=progress, jobs=jobs)


def write_nmnist(
    folder: str | os.PathLike[str],
    *,
    train: int = 24,
    test: int = 32,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Simulated N-MNIST recordings in the official form: `<Train|Test>/<digit>/<id>.bin`, 34 x 34 pixels.

    The digits in Train and in Test are from different writers. Where there are fewer images of a digit than recordings,
    images come again with another slant, size, place, weight and contrast, and other noise. Numbers count from 1 in Train and
    in Test, and the digits take turns in them at random, as in the official dataset.

    Args:
        folder: made if it is missing; may hold what an earlier call with the same arguments wrote, which is replaced.
        train, test: recordings a digit.
        seed: fixes everything; other seeds give other recordings.
        progress: a bar; None shows it on a terminal alone.
        jobs: processes.

    Returns:
        The folder.

    Raises:
        UsageError: a number out of range, or a folder that holds other recordings, real ones above all.
    """
    if min(train, test) < 0 or max(train, test) > 9_999 or train + test == 0:
        raise UsageError(
            f"train={train} and test={test} recordings a digit; give 0 to 9999 each, and not 0 both"
        )
    wanted = {"Train": train, "Test": test}
    planned = []
    for name, each in wanted.items():
        for block in range(each):
            turns = WordStream("n-mnist", seed, name, "turns", block).shuffled(10)
            planned += [
                (name, int(digit), block, 10 * block + k + 1) for k, digit in enumerate(turns)
            ]
    root = _claim(folder, "*/*/*.bin", f"N-MNIST (train={train}, test={test}, seed={seed})", jobs)
    images = _dealt_images(seed, wanted)
    batches = [
        (
            np.stack(
                [images[name, digit][k % len(images[name, digit])] for name, digit, k, _ in batch]
            ),
            batch,
        )
        for batch in (planned[i : i + _BATCH] for i in range(0, len(planned), _BATCH))
    ]
    _work(
        partial(_write_digits, root, seed),
        batches,
        len(planned),
        progress,
        jobs,
        "simulated N-MNIST",
    )
    return root


def write_asl_dvs(
    folder: str | os.PathLike[str],
    *,
    files: int = 60,
    letters: str = "".join(HANDSHAPES),
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Simulated ASL-DVS recordings in the official form: `<letter>/<letter>_0001.mat`, 240 x 180 pixels, 100 ms each.

    MATLAB variables ts (microseconds), x, y and pol, each (N, 1); pixels flipped on both axes against the image, as in the real
    files. Five subjects show each letter one after the other, and each subject's files are consecutive slices of one take: so
    neighboring numbers are near-copies, and the last fifth of the numbers shows a subject that the others do not.

    Args:
        folder: made if it is missing; may hold what an earlier call with the same arguments wrote, which is replaced.
        files: recordings a letter.
        letters: some of abcdefghiklmnopqrstuvwxy.
        seed: fixes everything; other seeds give other recordings.
        progress: a bar; None shows it on a terminal alone.
        jobs: processes.

    Returns:
        The folder.

    Raises:
        UsageError: a number out of range, a letter that is not in the dataset or comes twice, or a folder that holds other
            recordings, real ones above all.
    """
    if not 1 <= files <= 9_999:
        raise UsageError(f"files={files} recordings a letter; give 1 to 9999")
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(HANDSHAPES):
        raise UsageError(f"letters={letters!r}; give some of {''.join(HANDSHAPES)}, each once")
    planned = []
    for letter in letters:
        for i in range(files):
            subject = i * SUBJECTS // files
            first = -(-subject * files // SUBJECTS)
            planned.append((letter, subject, i - first, i + 1))
    root = _claim(
        folder, "*/*.mat", f"ASL-DVS (files={files}, letters={letters}, seed={seed})", jobs
    )
    _work(
        partial(_write_hand, root, seed), planned, len(planned), progress, jobs, "simulated ASL-DVS"
    )
    return root


def _dealt_images(
    seed: int, wanted: dict[str, int]
) -> dict[tuple[str, int], npt.NDArray[np.int32]]:
    """Each digit's images for Train and for Test in random order, [images, 8, 8], by (folder, digit).

    Scikit-learn has the images writer by writer, so that halves share one writer at most.
    """
    dealt = {}
    for digit, images in enumerate(handwriting()):
        half = len(images) // 2
        for name, own in (("Train", images[:half]), ("Test", images[half:])):
            dealt[name, digit] = own[
                WordStream("n-mnist", seed, name, "images", digit).shuffled(len(own))
            ]
    return dealt


def _write_digits(
    root: Path, seed: int, batch: tuple[npt.NDArray[np.int32], list[tuple[str, int, int, int]]]
) -> int:
    images, names = batch
    recordings = digit_recordings(images, seed, [name[:3] for name in names])
    for (name, digit, _, number), events in zip(names, recordings, strict=True):
        _put(root / name / str(digit) / f"{number:05d}.bin", _nmnist_bytes(events))
    return len(names)


def _write_hand(root: Path, seed: int, name: tuple[str, int, int, int]) -> int:
    letter, subject, piece, number = name
    _put(
        root / letter / f"{letter}_{number:04d}.mat",
        _asl_dvs_bytes(hand_recording(seed, letter, subject, piece)),
    )
    return 1


def _nmnist_bytes(events: Events) -> bytes:
    """5 bytes an event: x, y, then the polarity's bit and 23 bits of microseconds, the high ones first."""
    t = events["t"]
    out = np.empty((len(events), 5), np.uint8)
    out[:, 0], out[:, 1] = events["x"], events["y"]
    out[:, 2] = events["p"].astype(np.int64) << 7 | t >> 16
    out[:, 3] = t >> 8 & 0xFF
    out[:, 4] = t & 0xFF
    return out.tobytes()


def _asl_dvs_bytes(events: Events) -> bytes:
    """A MATLAB file of upright events, pixels flipped; without the date that scipy puts into the 116 bytes of its header."""
    from scipy.io import savemat

    width, height = HAND_SIZE
    columns = {
        "ts": events["t"].astype(np.int32),
        "x": (width - 1 - events["x"]).astype(np.uint8),
        "y": (height - 1 - events["y"]).astype(np.uint8),
        "pol": events["p"].astype(np.uint8),
    }
    buffer: Any = io.BytesIO()  # scipy takes it, its type stubs do not
    savemat(buffer, columns, oned_as="column")
    content: bytes = buffer.getvalue()
    header = (
        b"MATLAB 5.0 MAT-file, simulated recording in the form of ASL-DVS, written by metaevents"
    )
    return header.ljust(116) + content[116:]


def _put(path: Path, content: bytes) -> None:
    """A file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _claim(folder: str | os.PathLike[str], pattern: str, form: str, jobs: int) -> Path:
    """The folder, marked as one of simulated recordings; none that holds recordings of another origin."""
    if jobs < 1:
        raise UsageError(f"jobs={jobs}; give the number of processes, at least 1")
    root = Path(folder).expanduser()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a folder for the simulated recordings")
    mark = root / SIMULATED_MARK
    text = (
        f"Simulated by metaevents: no real recordings, but files in the form of {form}.\n".encode()
    )
    if mark.exists() and mark.read_bytes() != text:
        raise UsageError(
            f"{root} holds other simulated recordings than {form}; remove it or give another folder"
        )
    if not mark.exists() and any(root.glob(pattern)):
        raise UsageError(
            f"{root} holds recordings that were not simulated here; give another folder"
        )
    _put(mark, text)
    return root


def _work(
    write: Callable[[Any], int],
    parts: Sequence[Any],
    total: int,
    progress: bool | None,
    jobs: int,
    title: str,
) -> None:
    """`write` each part, which tells how many recordings it wrote."""
    from tqdm import tqdm

    with tqdm(
        total=total, desc=title, unit="rec", disable=None if progress is None else not progress
    ) as bar:
        if jobs == 1:
            for part in parts:
                bar.update(write(part))
            return
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Spawned, since a fork of a process with threads (torch has them) can hang.
        with ProcessPoolExecutor(min(jobs, len(parts)), mp_context=get_context("spawn")) as pool:
            for done in pool.map(write, parts):
                bar.update(done)
