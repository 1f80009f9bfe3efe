"""Fetch N-Omniglot: three RAR archives on Figshare, as one folder of the official layout.

Figshare states the MD5 of every file in its record of the article, which is read before the first
download. Every archive is unpacked on its own, so that a failed call loses none that is complete.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from metaevents.download.disk import disk_errors, lock_target
from metaevents.download.folders import (
    by_hand_command,
    existing_paths,
    staging_folder,
    use_in_place,
    warn_of_counts,
)
from metaevents.download.http import RemoteFile, RetryPolicy, adopt, download, read_url
from metaevents.download.rar import is_rar, require_program, unpacked
from metaevents.errors import FetchError
from metaevents.files import PathLike, user_path, visible_entries

logger = logging.getLogger(__name__)

_RECORD_LIMIT = 1 << 22  # bytes of Figshare's record of an article

_LIMIT = 128 << 30  # bytes that one archive may unpack to

_SUFFIXES = (".aedat4", ".csv")

_MERGED = "dvs_background"  # the authors' loader wants the two background archives under this name


def fetch_n_omniglot(
    root: PathLike,
    files: Sequence[RemoteFile],
    *,
    record: str,
    expected: Mapping[str, int],
    given: Sequence[PathLike] = (),
    mirrors: Sequence[str] = (),
    retry: RetryPolicy = RetryPolicy(),
    progress: bool | None = None,
) -> Path:
    """Fetch N-Omniglot as `root/n-omniglot`, with `<folder>/<alphabet>/character<NN>/`.

    The dataset: Li, Dong, Zhao and Zeng 2022, Scientific Data 9:746.

    Args:
        root: Folder in which `n-omniglot` is made.
        files: One RAR archive per folder, named after it, such as `dvs_evaluation.rar`. They are
            kept in `root/downloads`. A checksum that is None is taken from the record.
        record: URL of Figshare's record of the article, a JSON text with the MD5 of every file. If
            it cannot be read, a warning is logged, and only sizes are checked.
        expected: Folder -> number of characters. A warning is logged if the number differs.
        given: What the user has: the archives, recognized by their names or sizes; a folder of
            them; or a folder of the official layout, which is used where it is.
        mirrors: URLs tried before the official ones; see `download`.
        retry: Retry and timeout policy per URL.
        progress: True or False for progress bars or none; None shows them on a terminal only.

    Returns:
        `root/n-omniglot`, or the given folder of the official layout.

    Raises:
        UsageError: A path cannot be used as one.
        MissingError: A given path does not exist, or no program that unpacks RAR archives is
            installed.
        FetchError: A download or an unpacking failed, a given file is none of the archives, or an
            archive has no characters. The folders that are complete are kept for the next call.
    """
    root = user_path(root)
    final = root / "n-omniglot"
    paths = existing_paths(given)
    with disk_errors(final):
        for path in paths:
            counts = {name: _count_characters(path / name) for name in (*expected, _MERGED)}
            if any(counts.values()):
                warn_of_counts(path, _by_part(expected), _by_part(counts))
                return use_in_place(path)
    with lock_target(final):
        if final.exists():
            counts = {folder: _count_characters(final / folder) for folder in expected}
            if missing := [folder for folder, count in counts.items() if not count]:
                raise FetchError(
                    f"{final} has no characters in {', '.join(missing)}; move it away and repeat "
                    "the command"
                )
            warn_of_counts(final, expected, counts)
            return final
        staging = staging_folder(final)
        archives = {Path(file.name).stem: file for file in files}
        wanted = [folder for folder in expected if not (staging / folder).is_dir()]
        if wanted:
            require_program()
            checked = _with_checksums([archives[folder] for folder in wanted], record, retry)
            archives |= {Path(file.name).stem: file for file in checked}
        downloads = root / "downloads"
        for file, path in _recognize(paths, [archives[folder] for folder in wanted]):
            adopt(path, file, downloads, progress=progress)
        for folder in wanted:
            archive = download(
                archives[folder],
                downloads,
                mirrors=mirrors,
                retry=retry,
                by_hand=by_hand_command("n-omniglot", root, "FILE_OR_DIR"),
                progress=progress,
            )
            _unpack(archive, staging / folder, progress)
        warn_of_counts(
            final, expected, {folder: _count_characters(staging / folder) for folder in expected}
        )
        staging.rename(final)
    return final


# --- What is there --------------------------------------------------------------------------------


def _count_characters(folder: Path) -> int:
    """The number of folders `<alphabet>/<character>` that hold an .aedat4 file."""
    if not folder.is_dir():
        return 0
    return sum(
        any(entry.name.lower().endswith(_SUFFIXES[0]) for entry in visible_entries(character))
        for alphabet in visible_entries(folder)
        if alphabet.is_dir()
        for character in (Path(entry.path) for entry in visible_entries(Path(alphabet.path)))
        if character.is_dir()
    )


def _by_part(counts: Mapping[str, int]) -> dict[str, int]:
    """The same counts, with all background folders counted as one."""
    parts: dict[str, int] = {}
    for name, count in counts.items():
        part = _MERGED if name.startswith(_MERGED) else name
        parts[part] = parts.get(part, 0) + count
    return parts


def _recognize(paths: Sequence[Path], files: Sequence[RemoteFile]) -> list[tuple[RemoteFile, Path]]:
    """The archives among the given files and folders, by name or size; `adopt` verifies them.

    Raises:
        FetchError: A given path is no archive and no folder of them.
    """
    recognized = []
    for path in paths:
        candidates = [path]
        if path.is_dir():
            candidates = [path / entry.name for entry in visible_entries(path) if entry.is_file()]
        matches = [
            (file, candidate)
            for candidate in candidates
            if is_rar(candidate)
            for file in files
            if candidate.name == file.name or candidate.stat().st_size == file.size
        ]
        if files and not matches:
            names = ", ".join(f"{file.name} ({file.size or 0:,} bytes)" for file in files)
            raise FetchError(
                f"{path} is none of {names}, no folder of them and no folder that holds "
                f"{_MERGED} or dvs_evaluation; give one of these"
            )
        recognized += matches
    return recognized


# --- Figshare's record ----------------------------------------------------------------------------


def _with_checksums(
    files: Sequence[RemoteFile], record: str, retry: RetryPolicy
) -> list[RemoteFile]:
    """The files with the checksums that Figshare's record states.

    Raises:
        FetchError: The record states another size than the one that is known.
    """
    if all(file.checksum is not None for file in files):
        return list(files)
    try:
        stated = _read_record(record, retry)
    except FetchError as error:
        logger.warning(
            "%s; the sizes of the archives are checked, their checksums are not", error
        )  # an error's message is printable
        return list(files)
    checked = []
    for file in files:
        if file.name not in stated:
            logger.warning("the record %s has no file %s; its checksum is not known", record,
                           file.name)  # fmt: skip
        checksum, size = stated.get(file.name, (None, file.size))
        if file.size is not None and size != file.size:
            raise FetchError(
                f"{file.name} has {size:,} bytes in the record {record}, expected {file.size:,}; "
                "the authors published another version, which this release does not know"
            )
        checked.append(replace(file, checksum=file.checksum or checksum))
    return checked


def _read_record(record: str, retry: RetryPolicy) -> dict[str, tuple[str | None, int]]:
    """The checksum and the size of every file in Figshare's record of an article.

    Raises:
        FetchError: It cannot be read, or has another form.
    """
    content = read_url(record, limit=_RECORD_LIMIT, retry=retry)
    try:
        stated: dict[str, tuple[str | None, int]] = {}
        for file in json.loads(content)["files"]:
            md5 = str(file.get("computed_md5") or file.get("supplied_md5") or "").lower()
            checksum = f"md5:{md5}" if re.fullmatch("[0-9a-f]{32}", md5) else None
            stated[str(file["name"])] = checksum, int(file["size"])
        return stated
    # Whatever a server writes: no JSON, other keys, other types, numbers without end.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(
            f"{record} is no record of Figshare ({type(error).__name__}: {error})"
        ) from error


# --- Unpacking ------------------------------------------------------------------------------------


def _unpack(archive: Path, folder: Path, progress: bool | None) -> None:
    """Unpack the characters of an archive into a folder that appears when it is complete.

    Raises:
        FetchError: The archive cannot be unpacked, or has no characters.
    """
    collected = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(collected, ignore_errors=True)
    raw = folder.with_name(f".{folder.name}.unpacked")
    with unpacked(archive, raw, limit=_LIMIT, progress=progress):
        moved = _move_characters(raw, collected)
    if not moved:
        shutil.rmtree(collected, ignore_errors=True)
        raise FetchError(
            f"{archive} holds no <alphabet>/character<NN>/<number>.aedat4; move it away and repeat "
            "the command"
        )
    collected.rename(folder)


def _move_characters(raw: Path, collected: Path) -> int:
    """Move the files of all characters, in whatever folder they are; returns their number."""
    moved = 0
    for path, _, names in os.walk(raw):  # links to folders are not followed
        character = Path(path)
        if not re.fullmatch("character[0-9]{2}", character.name):
            continue
        for name in sorted(names):
            source = character / name
            if source.suffix.lower() not in _SUFFIXES or source.is_symlink():
                continue
            target = collected / character.parent.name / character.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            moved += 1
    return moved
