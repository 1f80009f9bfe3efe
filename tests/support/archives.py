"""Small archives for tests: building, copying and editing them."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

from metaevents.archive.format import seal
from metaevents.archive.reader import Archive
from metaevents.building import build_archive, open_source
from metaevents.sources import NMNIST

NAME = "double-nmnist"


def build_in(root: Path, name: str, folder: Path) -> Path:
    """Build `root/<name>.h5` from a folder of recordings and return `root`."""
    build_archive(name, root / f"{name}.h5", open_source(name, folder))
    return root


def build_nmnist(folder: Path, path: Path, **options: object) -> Archive:
    """Build the Double N-MNIST archive of a folder of recordings, and open it."""
    build_archive(NAME, path, NMNIST(folder), **options)  # type: ignore[arg-type]
    return Archive(path)


def copy_archive(root: Path, folder: Path) -> Path:
    """Copy the Double N-MNIST archive in `root` to another folder and return the copy."""
    return Path(shutil.copy(root / f"{NAME}.h5", folder / f"{NAME}.h5"))


def edit_archive(path: Path, edit: str) -> None:
    """Edit an archive by a statement on the open h5py `file`, and seal it again."""
    with h5py.File(path, "r+") as file:
        exec(edit, {"file": file, "np": np, "h5py": h5py})
    seal(path)
