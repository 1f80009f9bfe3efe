"""Violations of the entry schema, one sentence each: which field, what it is, what is expected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from metaevents.benchmark.entries import schema

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

_MAX_ERRORS = 1000
_MAX_ELEMENTS = 5000  # of a list or an object; an entry has 600 episodes


def schema_problems(document: Any) -> Iterator[str]:
    """Yield violations of the schema, in the order of the fields' names.

    Of a document with more than a thousand violations, the first thousand are found. A document
    with a very long list is refused for that alone, since every element takes time.

    Args:
        document: any JSON value.
    """
    if problem := _size_problem(document):
        yield problem
        return
    errors = islice(_validator().iter_errors(document), _MAX_ERRORS)
    ordered = sorted(errors, key=lambda error: [str(step) for step in error.absolute_path])
    yield from islice(chain.from_iterable(map(_sentences, ordered)), _MAX_ERRORS)


def _size_problem(document: Any) -> str | None:
    """Return which list or object of a document has too many elements; None if none has.

    What the weights were trained on is left out: the schema leaves it open.
    """
    nodes: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while nodes:
        steps, node = nodes.pop()
        if not isinstance(node, (dict, list)) or steps == ("report", "seen"):
            continue
        if len(node) > _MAX_ELEMENTS:
            return (
                f"{_field_name(steps)} has {len(node):,} elements, expected at most "
                f"{_MAX_ELEMENTS:,}"
            )
        items = node.items() if isinstance(node, dict) else enumerate(node)
        nodes += [((*steps, step), child) for step, child in items]
    return None


def method_problem(name: str, value: Any) -> str | None:
    """Return how one method field of an entry violates the schema; None if it does not.

    Args:
        name: the field.
        value: its value, as JSON can write it.
    """
    for error in _validator().iter_errors({"method": {name: value}}):
        if list(error.absolute_path)[:2] == ["method", name]:
            return next(_sentences(error))
    return None


def _sentences(error: ValidationError) -> Iterator[str]:
    """Yield what one error of the validator says: one sentence, or one per missing or odd field."""
    steps = list(error.absolute_path)
    value: Any = error.validator_value
    instance: Any = error.instance
    if error.validator == "required":
        for name in value:
            if name not in instance:
                field = [*steps, name]
                yield f"{_field_name(field)} is missing, expected {_expected(field)}"
    elif error.validator == "additionalProperties" and value is False:
        known: Any = dict(error.schema)["properties"]  # type: ignore[arg-type]
        for name in instance:
            if name not in known:
                yield (
                    f"{_field_name([*steps, name])} is unknown; {_field_name(steps)} has "
                    f"{', '.join(known)}"
                )
    else:
        yield f"{_field_name(steps)} is {brief(instance)}, expected {_expected(steps)}"


def brief(value: Any) -> str:
    """Return a value as JSON, cut to 60 characters.

    Args:
        value: Any JSON value, however large; only its beginning is written.
    """
    text = ""
    for part in json.JSONEncoder().iterencode(value):
        text += part[:61]
        if len(text) > 60:
            return text[:57] + "..."
    return text


@cache
def _validator() -> Validator:
    from jsonschema import Draft202012Validator, validators

    # The one of jsonschema compares every pair of elements.
    linear: Any = validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"uniqueItems": _unique_items}
    )
    validator: Validator = linear(_schema())
    return validator


def _unique_items(
    validator: Validator, unique: bool, instance: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Check the keyword `uniqueItems` in linear time."""
    from jsonschema import ValidationError

    if unique and isinstance(instance, list):
        texts = {json.dumps(item, sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("has an element twice")


@cache
def _schema() -> dict[str, Any]:
    """The schema, read once. Nothing changes it."""
    return schema()


def _field_name(steps: Sequence[str | int]) -> str:
    """Return a path into the document as text: "report.per_episode[3]"."""
    text = ""
    for step in steps:
        # A name may come from a stranger: its control characters are escaped, and it is cut.
        text += f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)[1:-1][:60]}"
    return text.lstrip(".") or "the entry"


def _expected(steps: Sequence[str | int]) -> str:
    """Return the schema's description of the field at a path."""
    root = _schema()
    node: Any = root
    description = "an object as the schema describes it"
    for step in steps:
        node = _resolve(node, root)
        if isinstance(step, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(step) or node["additionalProperties"]
        description = {**_resolve(node, root), **node}["description"]
    return str(description)


def _resolve(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that a node of the schema refers to, or the node itself."""
    if "$ref" not in node:
        return node
    definition: Mapping[str, Any] = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return definition
