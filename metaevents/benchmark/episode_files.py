"""Episode files: the episodes of a protocol without their events, beside the leaderboard's entries.

Entries are compared query by query and recording by recording. For that, the true labels and the
recordings of all episodes are needed. They follow from an archive, which a reader of the
leaderboard need not have. So the folder of the entries has a subfolder `episodes` with one file per
list of episodes, named after its digest:

    header   JSON text: format, format_version, episodes_digest, names of the classes (classes) and
             ids of the recordings (ids)
    labels   [episodes, ways * queries] true label of every query
    classes  [episodes, ways] class of every label, as an index into the names
    queries  [episodes, ways * queries, sides] recording of every query, as an index into the ids
    support  [episodes, ways * shots, sides] the same for the support, class by class

The digest covers classes, ids and labels, and it is computed again whenever a file is read. So a
file cannot hold other episodes than its name says.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from metaevents.benchmark.protocols import EpisodeList, Protocol, episode_digest, index_dtype
from metaevents.errors import MissingError, UsageError
from metaevents.files import write_atomic
from metaevents.untrusted import describe, parse_json, read_arrays, read_bytes

FORMAT = "metaevents-episodes"
FORMAT_VERSION = 1

FOLDER = "episodes"
"""Subfolder of the folder of the entries."""

MAX_EPISODE_FILE_BYTES = 1 << 27
"""Largest size of a file, packed and unpacked."""

_ARRAYS = ("header", "labels", "classes", "queries", "support")

_ADVICE = "write it again with `metaevents leaderboard --archive FILE`"


def episode_file(folder: Path, digest: str) -> Path:
    """Return where a folder of entries has the episodes of a digest."""
    return folder / FOLDER / f"{digest}.npz"


def write_episode_file(
    folder: Path, episodes: EpisodeList, classes: Sequence[str], ids: Sequence[str]
) -> Path:
    """Write the episodes of a protocol beside the entries.

    Args:
        folder: Folder of the entries.
        episodes: The episodes.
        classes: Names of the classes, in the order of their indices.
        ids: Recording ids, in the order of their indices.

    Returns:
        The file. Equal episodes give equal bytes.
    """
    used, places = np.unique(
        np.concatenate([episodes.queries.reshape(-1), episodes.support.reshape(-1)]),
        return_inverse=True,
    )
    split = episodes.queries.size
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "episodes_digest": episodes.digest,
        "classes": list(classes),
        "ids": [ids[index] for index in used.tolist()],
    }
    arrays = {
        "header": np.array(json.dumps(header)),
        "labels": _narrow(episodes.labels),
        "classes": _narrow(episodes.classes),
        "queries": _narrow(places.reshape(-1)[:split].reshape(episodes.queries.shape)),
        "support": _narrow(places.reshape(-1)[split:].reshape(episodes.support.shape)),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **cast(Any, arrays))
    path = episode_file(folder, episodes.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return path


def _narrow(values: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 in the smallest type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def read_episode_file(folder: Path, protocol: Protocol, digest: str) -> EpisodeList:
    """Read the episodes of a protocol from beside the entries.

    Args:
        folder: Folder of the entries.
        protocol: The protocol that the episodes are of.
        digest: Their digest.

    Returns:
        The episodes. A recording is its place among the file's ids, not an archive index.

    Raises:
        MissingError: There is no such file.
        UsageError: The file is damaged, or holds other episodes.
    """
    path = episode_file(folder, digest)
    if not path.is_file():
        raise MissingError(f"no episode file {path}; {_ADVICE}")
    content = read_bytes(path, MAX_EPISODE_FILE_BYTES, "episode file", _ADVICE)
    try:
        arrays = read_arrays(content, _ARRAYS, MAX_EPISODE_FILE_BYTES)
        header = parse_json(str(arrays["header"][()]))
        if (header["format"], header["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError("it has another format")
        names, ids = tuple(map(str, header["classes"])), tuple(map(str, header["ids"]))
        labels, classes, queries, support = (
            _checked(name, arrays[name], shape, most)
            for name, shape, most in (
                ("labels", (protocol.n_queries,), protocol.ways),
                ("classes", (protocol.ways,), len(names)),
                ("queries", (protocol.n_queries, None), len(ids)),
                ("support", (protocol.ways * protocol.shots, None), len(ids)),
            )
        )
        if not len(labels) == len(classes) == len(queries) == len(support) == protocol.episodes:
            raise ValueError(f"it has not {protocol.episodes} episodes")
        found = list_digest(protocol, names, ids, labels, classes, queries, support)
    except Exception as error:  # whatever a damaged file leads to
        raise UsageError(f"{path} is no episode file ({describe(error)}); {_ADVICE}") from error
    if found != digest:
        raise UsageError(
            f"{path} holds the episodes {found[:16]}..., not those of its name; {_ADVICE}"
        )
    return EpisodeList(
        labels.astype(index_dtype(protocol.ways)),
        classes.astype(index_dtype(len(names))),
        queries.astype(np.int32),
        support.astype(np.int32),
        digest,
    )


def _checked(name: str, values: np.ndarray, shape: tuple[int | None, ...], most: int) -> np.ndarray:
    """Return an array of the file if its shape, its type and its values fit."""
    fits = values.ndim == 1 + len(shape) and all(
        expected in (None, found) for expected, found in zip(shape, values.shape[1:], strict=True)
    )
    if not fits or values.dtype.kind not in "iu":
        raise ValueError(f"{name} are {values.dtype} of shape {values.shape}")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < most:
        raise ValueError(f"{name} are out of range")
    return values


def list_digest(
    protocol: Protocol,
    names: Sequence[str],
    ids: Sequence[str],
    labels: np.ndarray,
    classes: np.ndarray,
    queries: np.ndarray,
    support: np.ndarray,
) -> str:
    """Return the digest of episodes, as `protocols.episode_list` computes it.

    Args:
        protocol: Gives ways and shots.
        names: Names of the classes.
        ids: Recording ids.
        labels: [episodes, ways * queries] true labels.
        classes: [episodes, ways] class of every label, as an index into the names.
        queries: [episodes, ways * queries, sides] recordings, as indices into the ids.
        support: [episodes, ways * shots, sides] the same for the support.
    """
    digest = hashlib.sha256()
    support_y = np.repeat(np.arange(protocol.ways), protocol.shots).tolist()
    for episode_classes, given, asked, query_y in zip(
        classes.tolist(), support.tolist(), queries.tolist(), labels.tolist(), strict=True
    ):
        digest.update(
            episode_digest(
                tuple(names[i] for i in episode_classes),
                tuple(tuple(ids[i] for i in sample) for sample in given),
                support_y,
                tuple(tuple(ids[i] for i in sample) for sample in asked),
                query_y,
            )
        )
    return digest.hexdigest()
