"""Writers of simulated recordings in the official forms of N-MNIST and ASL-DVS.

`simulate_recordings` writes enough recordings for any built-in dataset; N-Omniglot has its own
module.

The sources `NMNIST` and `ASLDVS` read the files like real ones. A mark in the folder says that the
recordings are simulated. `metaevents.simulation.digits` and `metaevents.simulation.hands` simulate
the events; this module chooses what is simulated, encodes the events and writes the files.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaevents.arguments import whole_number
from metaevents.errors import UsageError
from metaevents.events import Events
from metaevents.files import PathLike, user_path
from metaevents.rng import WordStream
from metaevents.simulation.digits import digit_recordings, handwriting
from metaevents.simulation.hands import HAND_SIZE, HANDSHAPES, SUBJECTS, hand_recording
from metaevents.simulation.n_omniglot import write_n_omniglot
from metaevents.simulation.recording_files import (
    claim_folder,
    write_parts,
    write_recording,
)

_BATCH = 16
"""Number of N-MNIST recordings that are simulated together."""


class _DigitFile(NamedTuple):
    """One N-MNIST file: its folder, digit, position among the digit's files, and number."""

    folder: str
    digit: int
    position: int
    number: int


class _HandFile(NamedTuple):
    """One ASL-DVS file: its letter, subject, slice of the subject's take, and number."""

    letter: str
    subject: int
    piece: int
    number: int


def simulate_recordings(
    dataset: str,
    root: PathLike,
    *,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Write enough simulated recordings for the archive of a built-in dataset.

    Args:
        dataset: "double-nmnist", "double-asl-dvs" or "n-omniglot".
        root: The parent of the folder of recordings; made if it does not exist.
        seed: See `write_nmnist`.
        progress: See `write_nmnist`.
        jobs: See `write_nmnist`.

    Returns:
        The folder of recordings in `root`, such as "simulated-nmnist".

    Raises:
        UsageError: The dataset has another name, or for the reasons of `write_nmnist`.
    """
    writers: dict[str, tuple[str, Callable[..., Path]]] = {
        "double-nmnist": ("simulated-nmnist", write_nmnist),
        "double-asl-dvs": ("simulated-asl-dvs", write_asl_dvs),
        "n-omniglot": ("simulated-n-omniglot", write_n_omniglot),
    }
    if not isinstance(dataset, str) or dataset not in writers:
        raise UsageError(
            f"no simulated recordings for {dataset!r}; choose from {', '.join(writers)}"
        )
    folder, write = writers[dataset]
    return write(user_path(root) / folder, seed=seed, progress=progress, jobs=jobs)


def write_nmnist(
    folder: PathLike,
    *,
    train: int = 24,
    test: int = 32,
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Write simulated N-MNIST recordings: `<Train|Test>/<digit>/<id>.bin`, 34 x 34 pixels.

    The digits in Train and in Test come from different writers. If a digit has fewer images than
    recordings, images are used again with another slant, size, place, weight, contrast and noise.
    Numbers count from 1 in Train and in Test. Every ten numbers hold the ten digits in random
    order; the numbers of the official dataset mix the digits too.

    Args:
        folder: Made if it does not exist. It may hold the files of an earlier call with the same
            arguments, which are replaced.
        train: Train recordings per digit, 0 to 9,999.
        test: Test recordings per digit, 0 to 9,999.
        seed: Seed of everything random.
        progress: Whether to show a progress bar; None shows it on a terminal only.
        jobs: Number of processes.

    Returns:
        The folder.

    Raises:
        UsageError: A number is out of range, or the folder holds other recordings, such as real
            ones.
    """
    train = whole_number("train", train, least=0, most=9_999)
    test = whole_number("test", test, least=0, most=9_999)
    if train + test == 0:
        raise UsageError(
            f"train={train} and test={test} recordings per digit; "
            "give 0 to 9999 each, and not 0 for both"
        )
    seed, jobs = whole_number("seed", seed), whole_number("jobs", jobs, least=1)
    form = f"N-MNIST (train={train}, test={test}, seed={seed})"
    root = claim_folder(folder, "*/*/*.bin", form)
    files = _plan_digits(seed, {"Train": train, "Test": test})
    batches = _with_images(files, _shuffled_images(seed))
    write = partial(_write_digits, root, seed)
    write_parts(write, batches, len(files), progress, jobs, "simulated N-MNIST")
    return root


def write_asl_dvs(
    folder: PathLike,
    *,
    files: int = 60,
    letters: str = "".join(HANDSHAPES),
    seed: int = 0,
    progress: bool | None = None,
    jobs: int = 1,
) -> Path:
    """Write simulated ASL-DVS recordings: `<letter>/<letter>_0001.mat`, 240 x 180 pixels, 100 ms.

    The MATLAB variables are ts (microseconds), x, y and pol, each (N, 1). Pixels are flipped on
    both axes, as in the real files. Five subjects show each letter one after the other. The files
    of a subject are consecutive slices of one take, so files with neighboring numbers are
    near-copies, and the last fifth of the numbers shows a subject that the others do not.

    Args:
        folder: Made if it does not exist. It may hold the files of an earlier call with the same
            arguments, which are replaced.
        files: Recordings per letter, 1 to 9,999.
        letters: Some of abcdefghiklmnopqrstuvwxy, each once.
        seed: Seed of everything random.
        progress: Whether to show a progress bar; None shows it on a terminal only.
        jobs: Number of processes.

    Returns:
        The folder.

    Raises:
        UsageError: A number is out of range, a letter is not in the dataset or is given twice, or
            the folder holds other recordings, such as real ones.
    """
    files = whole_number("files", files, least=1, most=9_999)
    if not isinstance(letters, str):
        raise UsageError(f"letters={letters!r}; give a string of letters")
    if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(HANDSHAPES):
        raise UsageError(f"letters={letters!r}; give some of {''.join(HANDSHAPES)}, each once")
    seed, jobs = whole_number("seed", seed), whole_number("jobs", jobs, least=1)
    form = f"ASL-DVS (files={files}, letters={letters}, seed={seed})"
    root = claim_folder(folder, "*/*.mat", form)
    planned = _plan_hands(letters, files)
    write = partial(_write_hand, root, seed)
    write_parts(write, planned, len(planned), progress, jobs, "simulated ASL-DVS")
    return root


def _plan_digits(seed: int, per_digit: Mapping[str, int]) -> list[_DigitFile]:
    """The N-MNIST files to write, in order of folder and number.

    Args:
        seed: Seed of the order of the digits.
        per_digit: Folder -> recordings per digit.
    """
    files = []
    for folder, count in per_digit.items():
        for position in range(count):
            digits = WordStream("n-mnist", seed, folder, "turns", position).permutation(10)
            files += [
                _DigitFile(folder, int(digit), position, 10 * position + k + 1)
                for k, digit in enumerate(digits)
            ]
    return files


def _plan_hands(letters: str, count: int) -> list[_HandFile]:
    """The ASL-DVS files to write, `count` per letter, in order of letter and number."""
    files = []
    for letter in letters:
        for i in range(count):
            subject = i * SUBJECTS // count
            first = -(-subject * count // SUBJECTS)  # index of the subject's first file
            files.append(_HandFile(letter, subject, i - first, i + 1))
    return files


def _shuffled_images(seed: int) -> dict[tuple[str, int], npt.NDArray[np.int32]]:
    """Each digit's images in random order, [images, 8, 8], by (folder, digit).

    Train has the first half of scikit-learn's images, Test the second. These are ordered by writer,
    so the halves share at most one writer.
    """
    shuffled = {}
    for digit, images in enumerate(handwriting()):
        half = len(images) // 2
        for folder, part in (("Train", images[:half]), ("Test", images[half:])):
            stream = WordStream("n-mnist", seed, folder, "images", digit)
            shuffled[folder, digit] = part[stream.permutation(len(part))]
    return shuffled


def _with_images(
    files: Sequence[_DigitFile], images: Mapping[tuple[str, int], npt.NDArray[np.int32]]
) -> list[tuple[npt.NDArray[np.int32], Sequence[_DigitFile]]]:
    """Batches of files with one image per file, [files, 8, 8]; a digit's images repeat in turn."""
    batches = []
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        choices = [(images[file.folder, file.digit], file.position) for file in batch]
        chosen = [pool[position % len(pool)] for pool, position in choices]
        batches.append((np.stack(chosen), batch))
    return batches


def _write_digits(
    root: Path, seed: int, batch: tuple[npt.NDArray[np.int32], Sequence[_DigitFile]]
) -> int:
    """Simulate and write a batch of N-MNIST files.

    Args:
        root: The folder of recordings.
        seed: Seed of everything random.
        batch: Images, [files, 8, 8], and the files.

    Returns:
        The number of recordings written.
    """
    images, files = batch
    names = [(file.folder, file.digit, file.position) for file in files]
    for file, events in zip(files, digit_recordings(images, seed, names), strict=True):
        path = root / file.folder / str(file.digit) / f"{file.number:05d}.bin"
        write_recording(path, _nmnist_bytes(events))
    return len(files)


def _write_hand(root: Path, seed: int, file: _HandFile) -> int:
    """Simulate and write one ASL-DVS file; returns 1, the number of recordings written."""
    events = hand_recording(seed, file.letter, file.subject, file.piece)
    path = root / file.letter / f"{file.letter}_{file.number:04d}.mat"
    write_recording(path, _asl_dvs_bytes(events))
    return 1


def _nmnist_bytes(events: Events) -> bytes:
    """Encode events as N-MNIST does.

    5 bytes per event: x, y, then the polarity bit and 23 bits of microseconds, big-endian.
    """
    t = events["t"]
    out = np.empty((len(events), 5), np.uint8)
    out[:, 0], out[:, 1] = events["x"], events["y"]
    out[:, 2] = events["p"].astype(np.int64) << 7 | t >> 16
    out[:, 3] = t >> 8 & 0xFF
    out[:, 4] = t & 0xFF
    return out.tobytes()


def _asl_dvs_bytes(events: Events) -> bytes:
    """Encode upright events as ASL-DVS does: a MATLAB file with flipped pixels.

    The 116 bytes of its header text hold no date, unlike scipy's.
    """
    from scipy.io import savemat

    width, height = HAND_SIZE
    columns = {
        "ts": events["t"].astype(np.int32),
        "x": (width - 1 - events["x"]).astype(np.uint8),
        "y": (height - 1 - events["y"]).astype(np.uint8),
        "pol": events["p"].astype(np.uint8),
    }
    buffer: Any = io.BytesIO()  # scipy accepts it, its type stubs do not
    savemat(buffer, columns, oned_as="column")
    content: bytes = buffer.getvalue()
    header = (
        b"MATLAB 5.0 MAT-file, simulated recording in the form of ASL-DVS, written by metaevents"
    )
    return header.ljust(116) + content[116:]
