"""Cached results, so that an interrupted experiment continues where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from metaevents.errors import UsageError
from metaevents.files import write_atomic
from metaevents.hashing import digest_json
from metaevents.untrusted import describe, read_bytes

Result = TypeVar("Result")

_FORMAT = "metaevents-cached-results"

_MAX_FILE = 1 << 28  # bytes

_ADVICE = "remove it to compute the results again, or give another folder"


class ResultsCache:
    """Results on disk, one file per experiment.

    Results that another experiment left in the same folder are used too.

    Args:
        folder: Folder of the files.
        name: Name of the experiment; results are written to `<name>.json`.

    Raises:
        UsageError: A file of the folder holds no cached results, or is damaged.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.json"
        self._results: dict[str, Any] = {}
        self._others: dict[str, Any] = {}
        for path in sorted(folder.glob("*.json")):
            (self._results if path == self._file else self._others).update(_read(path))

    def get(self, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        """Return the cached result of a key, computed if there is none.

        Args:
            key: All that the result depends on; anything that JSON can represent.
            compute: Computes the result; called without arguments. JSON must be able to represent
                the result.
        """
        text = json.dumps(key, sort_keys=True)
        if text not in self._results:
            if text in self._others:
                self._results[text] = self._others[text]
            else:
                self._results[text] = json.loads(json.dumps(compute()))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            document = {
                "format": _FORMAT,
                "sha256": digest_json(self._results),
                "results": self._results,
            }
            write_atomic(self._file, json.dumps(document))
        return cast(Result, self._results[text])


def _read(path: Path) -> dict[str, Any]:
    """Return the results in a file."""
    content = read_bytes(path, _MAX_FILE, "file of cached results", _ADVICE)
    try:
        document = json.loads(content.decode("utf-8"))
        results: dict[str, Any] = document["results"]
        if document["format"] != _FORMAT or not isinstance(results, dict):
            raise ValueError("it has another form")
        if document.get("sha256") != digest_json(results):
            raise ValueError("it has other results than were written")
    except Exception as error:  # whatever a damaged file leads to
        reason = f"no field {error}" if isinstance(error, KeyError) else describe(error)
        raise UsageError(
            f"{path} holds no cached results of an experiment ({reason}); {_ADVICE}"
        ) from error
    return results
