"""Leaderboard entries: the document, its JSON Schema, and reading its file.

Entries come from strangers: nothing in them is trusted, executed or fetched. Checking an entry is
left to `metaevents.benchmark.validation`, ranking to `metaevents.benchmark.leaderboard`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from metaevents.errors import UsageError
from metaevents.untrusted import describe, parse_json, read_bytes

MAX_ENTRY_BYTES = 8_000_000
"""Largest entry file that is read, in bytes; one of 600 episodes has about 20,000."""


@dataclass(frozen=True)
class Entry:
    """An entry that has passed the checks of its form and its numbers.

    Attributes:
        path: the file that it was read from.
        document: the file's content.
    """

    path: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """The file's name without its extension; unique in a folder."""
        return self.path.stem

    @property
    def method(self) -> Mapping[str, Any]:
        """Name, authors, code and so on; optional fields that are missing are None."""
        method: Mapping[str, Any] = {"citation": None, "notes": None, **self.document["method"]}
        return method

    @property
    def report(self) -> Mapping[str, Any]:
        """The report, as `metaevents evaluate` wrote it."""
        report: Mapping[str, Any] = self.document["report"]
        return report

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The evaluation protocol, in full."""
        protocol: Mapping[str, Any] = self.report["protocol"]
        return protocol

    @property
    def name(self) -> str:
        """The method's name."""
        return str(self.method["name"])

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the episodes, from 0 to 1."""
        return float(self.report["accuracy"])

    @property
    def costs(self) -> Mapping[str, Any]:
        """What one sample costs, with `adaptation`; empty where the entry does not say."""
        costs: Mapping[str, Any] = {"adaptation": None, **(self.report.get("costs") or {})}
        return {**costs, "adaptation": costs["adaptation"] or {}}

    @property
    def setting(self) -> str:
        """Measured setting: "transductive", "inductive" or "not probed"; see `setting_name`."""
        return setting_name(self.report["transductive"])

    @property
    def simulated(self) -> bool:
        """Whether it was made on simulated recordings; the leaderboard refuses such an entry."""
        return bool(self.report["archive"]["simulated"])

    @property
    def is_subset(self) -> bool:
        """Whether it was made on a subset of the recordings; such entries have separate tables."""
        source = str(self.report["archive"]["source"])
        return source.endswith("-subset") or str(self.protocol["name"]).startswith("sample-")

    @property
    def overlap(self) -> str | None:
        """Which part of the test the weights were trained on; such an entry gets no rank."""
        overlap: str | None = self.report["overlap"]
        return overlap

    @property
    def verified(self) -> Mapping[str, str] | None:
        """Who reran it, how and when; None if nobody but its authors did."""
        verified: Mapping[str, str] | None = self.document.get("verified")
        return verified

    @property
    def predictions(self) -> Path:
        """Path of the prediction file, which lies beside the entry."""
        return self.path.parent / str(self.document["predictions"]["file"])


def setting_name(transductive: bool | None) -> str:
    """Return the name of a setting: "transductive", "inductive" or "not probed".

    Args:
        transductive: As in a report.
    """
    if transductive is None:
        return "not probed"
    return "transductive" if transductive else "inductive"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an entry."""
    document: dict[str, Any] = json.loads(
        (files("metaevents") / "data" / "entry.schema.json").read_text("utf-8")
    )
    return document


def read_json(path: Path) -> Any:
    """Return the content of an entry file, not yet checked against the schema.

    Args:
        path: the entry (.json).

    Raises:
        MissingError: if there is no such file.
        UsageError: if the file is too large, cannot be read, or is not strict JSON; see
            `metaevents.untrusted.parse_json`.
    """
    content = read_bytes(path, MAX_ENTRY_BYTES, "entry", "`metaevents evaluate` writes one")
    try:
        return parse_json(content.decode("utf-8"))
    except Exception as error:
        raise UsageError(
            f"{path} is not an entry ({describe(error)}); expected JSON as `metaevents evaluate` "
            "writes it"
        ) from None
