"""Violations of a JSON Schema, one sentence each: which field, what it is, what is expected.

The documents come from strangers. The schema describes every field, and the descriptions are what
the sentences say is expected.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from metaevents.arguments import shown

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

_MAX_ERRORS = 1000


class SchemaCheck:
    """Checks documents against one schema (draft 2020-12).

    Args:
        schema: The schema. Each field has a `description` that says what it is expected to be.
        title: What the whole document is, for messages: "the entry".
        most: Largest number of elements of a list or an object, since every element takes time.
        unbounded: Paths of fields that `most` does not hold for.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        title: str,
        most: int,
        unbounded: Collection[tuple[str | int, ...]] = (),
    ) -> None:
        self._schema = schema
        self._title = title
        self._most = most
        self._unbounded = unbounded
        self._known_validator: Validator | None = None

    def problems(self, document: Any) -> Iterator[str]:
        """Yield violations of the schema, in the order of the fields' names.

        Of a document with more than a thousand violations, the first thousand are found. A document
        with a very long list is refused for that alone.

        Args:
            document: Any JSON value.
        """
        if problem := self._size_problem(document):
            yield problem
            return
        errors = islice(self._validator().iter_errors(document), _MAX_ERRORS)
        ordered = sorted(errors, key=lambda error: [str(step) for step in error.absolute_path])
        yield from islice(chain.from_iterable(map(self._sentences, ordered)), _MAX_ERRORS)

    def field_problem(self, document: Any, steps: Sequence[str | int]) -> str | None:
        """Return how one field of a document violates the schema; None if it does not.

        Args:
            document: Any JSON value; other fields may be missing.
            steps: Path of the field.
        """
        for error in self._validator().iter_errors(document):
            if list(error.absolute_path)[: len(steps)] == list(steps):
                return next(self._sentences(error))
        return None

    def problem_below(self, document: Any, steps: Sequence[str | int]) -> str | None:
        """Return the first violation in the fields below a path; None if there is none.

        Args:
            document: Any JSON value; other fields may be missing, also below the path.
            steps: Path of an object.
        """
        for error in self._validator().iter_errors(document):
            path = list(error.absolute_path)
            if len(path) > len(steps) and path[: len(steps)] == list(steps):
                return next(self._sentences(error))
        return None

    def _size_problem(self, document: Any) -> str | None:
        """Return which list or object of a document has too many elements; None if none has."""
        nodes: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
        while nodes:
            steps, node = nodes.pop()
            if not isinstance(node, (dict, list)) or steps in self._unbounded:
                continue
            if len(node) > self._most:
                return (
                    f"{self._field_name(steps)} has {len(node):,} elements, expected at most "
                    f"{self._most:,}"
                )
            items = node.items() if isinstance(node, dict) else enumerate(node)
            nodes += [((*steps, step), child) for step, child in items]
        return None

    def _sentences(self, error: ValidationError) -> Iterator[str]:
        """Yield what one error says: one sentence, or one per missing or odd field."""
        steps = list(error.absolute_path)
        value: Any = error.validator_value
        instance: Any = error.instance
        if error.validator == "required":
            for name in value:
                if name not in instance:
                    field = [*steps, name]
                    yield f"{self._field_name(field)} is missing, expected {self._expected(field)}"
        elif error.validator == "additionalProperties" and value is False:
            known: Any = dict(error.schema)["properties"]  # type: ignore[arg-type]
            for name in instance:
                if name not in known:
                    yield (
                        f"{self._field_name([*steps, name])} is unknown; "
                        f"{self._field_name(steps)} has {', '.join(known)}"
                    )
        else:
            expected = self._expected(steps)
            yield f"{self._field_name(steps)} is {brief(instance)}, expected {expected}"

    def _validator(self) -> Validator:
        if self._known_validator is None:
            from jsonschema import Draft202012Validator, validators

            # The keyword of jsonschema compares every pair of elements.
            linear: Any = validators.extend(  # type: ignore[no-untyped-call]
                Draft202012Validator, {"uniqueItems": _unique_items}
            )
            self._known_validator = linear(self._schema)
        return self._known_validator

    def _field_name(self, steps: Sequence[str | int]) -> str:
        """Return a path into the document as text: "report.per_episode[3]"."""
        text = ""
        for step in steps:
            # A name may come from a stranger: its control characters are escaped, and it is cut.
            text += f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)[1:-1][:60]}"
        return text.lstrip(".") or self._title

    def _expected(self, steps: Sequence[str | int]) -> str:
        """Return the schema's description of the field at a path."""
        node: Any = self._schema
        description = str(node.get("description", "an object as the schema describes it"))
        for step in steps:
            node = self._resolve(node)
            if isinstance(step, int):
                inner = node.get("items")
            else:
                inner = node.get("properties", {}).get(step) or node.get("additionalProperties")
            if not isinstance(inner, Mapping):  # the field above it says what it holds
                return description
            node = inner
            description = {**self._resolve(node), **node}.get("description", description)
        return description

    def _resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the definition that a node of the schema refers to, or the node itself."""
        if "$ref" not in node:
            return node
        definition: Mapping[str, Any] = self._schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return definition


def brief(value: Any) -> str:
    """Return a value as JSON, cut to 60 characters.

    Args:
        value: Any JSON value, however large; only its beginning is written. Objects of other types
            are written as texts.
    """
    text = ""
    for part in json.JSONEncoder(default=shown).iterencode(value):
        text += part[:61]
        if len(text) > 60:
            return text[:57] + "..."
    return text


def _unique_items(
    validator: Validator, unique: bool, instance: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Check the keyword `uniqueItems` in linear time."""
    from jsonschema import ValidationError

    if unique and isinstance(instance, list):
        texts = {json.dumps(item, sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("has an element twice")
