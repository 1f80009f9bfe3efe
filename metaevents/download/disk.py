"""The target of a download: one process at a time makes it; disk errors become FetchErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaevents.errors import FetchError, MetaeventsError, printable
from metaevents.files import exclusive_lock


@contextmanager
def lock_target(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is about to be downloaded or unpacked.

    If another process holds it, a warning is logged, and this process waits.

    Raises:
        FetchError: The block, or the lock itself, met an OSError: a full disk, missing permissions.
    """
    waiting = f"another process is making {printable(path)}; waiting for it"
    with disk_errors(path), exclusive_lock(path, waiting=waiting):
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn every OSError on the way to a file or folder into a FetchError.

    Raises:
        FetchError: The block met an OSError. The message names `path`.
    """
    try:
        yield
    except MetaeventsError:
        raise
    except OSError as error:
        raise FetchError(
            f"cannot make {path} ({error}); make room or correct the permissions there, or choose "
            "another folder"
        ) from error
