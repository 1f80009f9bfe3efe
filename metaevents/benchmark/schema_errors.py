"""Violations of the entry schema, one sentence each; see `metaevents.json_schema`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from metaevents.benchmark.entries import schema
from metaevents.json_schema import SchemaCheck

_MAX_ELEMENTS = 5000  # of a list or an object; an entry has 600 episodes


def schema_problems(document: Any) -> Iterator[str]:
    """Yield violations of the schema, in the order of the fields' names.

    Args:
        document: any JSON value.
    """
    return _check().problems(document)


def method_problem(name: str, value: Any) -> str | None:
    """Return how one method field of an entry violates the schema; None if it does not.

    Args:
        name: the field.
        value: its value, as JSON can write it.
    """
    return _check().field_problem({"method": {name: value}}, ("method", name))


def report_problem(fields: Mapping[str, Any]) -> str | None:
    """Return how a field of a report violates the schema; None if none does.

    Args:
        fields: fields of a report by name, not necessarily all.
    """
    return _check().problem_below({"report": dict(fields)}, ("report",))


@cache
def _check() -> SchemaCheck:
    # What the weights were trained on is left open by the schema.
    return SchemaCheck(schema(), "the entry", _MAX_ELEMENTS, {("report", "seen")})
