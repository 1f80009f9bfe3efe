"""Leaderboard entries: the documents that people send in, and every check that they must pass.

The form is a JSON Schema (`metaevents/data/entry.schema.json`, published with the package); what a schema cannot say is checked
here: the protocol is the protocol, the numbers follow from each other, the prediction file is the one that was meant, a rerun
was somebody else's. With the archive everything is recomputed from the predictions. Entries come from strangers: nothing in
them is trusted, run or fetched. Ranking is left to `metaevents.benchmark.leaderboard`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from metaevents.errors import MissingError, UsageError

LARGEST = 8_000_000
"""Bytes of an entry; one of 600 episodes has about 20,000."""


@dataclass(frozen=True)
class Entry:
    """An entry that passed its checks.

    Attributes:
        path: where it was read.
        document: as in the file.
    """

    path: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Names the entry among those of a folder: the file's name without its ending."""
        return self.path.stem

    @property
    def method(self) -> Mapping[str, Any]:
        """Name, authors, code and so on; null where it was not given."""
        method: Mapping[str, Any] = {"citation": None, "notes": None, **self.document["method"]}
        return method

    @property
    def report(self) -> Mapping[str, Any]:
        report: Mapping[str, Any] = self.document["report"]
        return report

    @property
    def protocol(self) -> Mapping[str, Any]:
        protocol: Mapping[str, Any] = self.report["protocol"]
        return protocol

    @property
    def name(self) -> str:
        return str(self.method["name"])

    @property
    def accuracy(self) -> float:
        return float(self.report["accuracy"])

    @property
    def setting(self) -> str:
        """Whether a query's score was found to depend on other queries: "transductive" or "inductive"."""
        return "transductive" if self.report["transductive"] else "inductive"

    @property
    def simulated(self) -> bool:
        """Whether it was made on simulated recordings, which never enter."""
        return bool(self.report["archive"]["simulated"])

    @property
    def sample(self) -> bool:
        """Whether it was made on a sample of the recordings, which stands in a table of its own."""
        source = str(self.report["archive"]["source"])
        return source.endswith("-subset") or str(self.protocol["name"]).startswith("sample-")

    @property
    def overlap(self) -> str | None:
        """What of the test the weights were trained on; such an entry is shown without a rank."""
        overlap: str | None = self.report["overlap"]
        return overlap

    @property
    def verified(self) -> Mapping[str, str] | None:
        """Who else reran it, how and when; None for what its authors claim."""
        verified: Mapping[str, str] | None = self.document.get("verified")
        return verified

    @property
    def predictions(self) -> Path:
        """The prediction file, beside the entry."""
        return self.path.parent / str(self.document["predictions"]["file"])


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an entry."""
    document: dict[str, Any] = json.loads(
        (files("metaevents") / "data" / "entry.schema.json").read_text("utf-8")
    )
    return document


def read_json(path: Path) -> Any:
    if not path.is_file():
        raise MissingError(f"no entry {path}; `metaevents evaluate` writes one")
    if path.stat().st_size > LARGEST:
        raise UsageError(
            f"{path} has {path.stat().st_size:,} bytes, an entry has at most {LARGEST:,}; give the .json file"
        )
    try:
        document = json.loads(
            path.read_text("utf-8"),
            object_pairs_hook=reject_duplicate_keys,
            parse_float=_finite,
            parse_constant=_finite,
        )
        json.dumps(document, ensure_ascii=False).encode(
            "utf-8"
        )  # half a character, as an escape allows it, is no text
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(
            f"{path} is no entry ({why}); expected JSON as `metaevents evaluate` writes it"
        ) from None
    return document


def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twins = (
        sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if twins:
        raise ValueError(f"the field {twins[0]!r} is there twice")
    return dict(pairs)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def brief(value: Any) -> str:
    said = json.dumps(value)
    return said if len(said) <= 60 else said[:57] + "..."


def printable(text: str) -> str:
    return json.dumps(text)[1:-1][:60]
