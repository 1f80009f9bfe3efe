"""Cached results, so that an interrupted experiment continues where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from metaevents.errors import UsageError
from metaevents.files import write_atomic

Result = TypeVar("Result")

_FORMAT = "metaevents-cached-results"


class ResultsCache:
    """Results on disk, one file per experiment.

    Results that another experiment left in the same folder are used too.

    Args:
        folder: Folder of the files.
        name: Name of the experiment; results are written to `<name>.json`.

    Raises:
        UsageError: A file of the folder holds no cached results.
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
            write_atomic(self._file, json.dumps({"format": _FORMAT, "results": self._results}))
        return cast(Result, self._results[text])


def _read(path: Path) -> dict[str, Any]:
    """Return the results in a file."""
    try:
        document = json.loads(path.read_text("utf-8"))
        results: dict[str, Any] = document["results"]
        if document["format"] != _FORMAT or not isinstance(results, dict):
            raise ValueError
    except Exception:  # whatever a damaged file leads to
        raise UsageError(
            f"{path} holds no cached results of an experiment; remove it, or give another folder"
        ) from None
    return results
