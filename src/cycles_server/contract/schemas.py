"""JSON Schema 2020-12, compiled once for each place in the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs

from cycles_server.contract.document import resolve
from cycles_server.jsontext import (
    INT64_MAX,
    INT64_MIN,
    OPEN,
    OpenMembers,
    shown,
    with_plain_numbers,
)

_MESSAGE_LENGTH = 240
_PLACE_LENGTH = 200
_BASE = "urn:contract"

_SECRET_MEMBERS = frozenset({"key_secret"})
"""A schema with one of these never repeats in a message what it was given."""
_MASK = "the value"

# What may stand in a schema that says no more of a value than that it is an object.
_OF_OPEN_OBJECTS = frozenset(
    {
        "additionalProperties",
        "default",
        "deprecated",
        "description",
        "example",
        "examples",
        "maxProperties",
        "minProperties",
        "title",
        "type",
    }
)


def _prepared(node: Any) -> Any:
    """A copy of a schema tree in which references are absolute, and ``format: int64`` is a
    minimum and a maximum.

    JSON Schema treats formats as annotations; an amount beyond int64 must still be refused.
    """
    if isinstance(node, dict):
        copied = {name: _prepared(member) for name, member in node.items()}
        if isinstance(copied.get("$ref"), str):
            copied["$ref"] = _BASE + copied["$ref"]
        if copied.get("format") == "int64":
            copied["minimum"] = max(copied.get("minimum", INT64_MIN), INT64_MIN)
            copied["maximum"] = min(copied.get("maximum", INT64_MAX), INT64_MAX)
        return copied
    if isinstance(node, list):
        return [_prepared(item) for item in node]
    return node


class SchemaCompiler:
    """Compiles schemas of one document; references resolve against its components."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        schemas = _prepared(document.get("components", {}).get("schemas", {}))
        # One copy of the components for all that is compiled.
        self._registry = jsonschema_rs.Registry([(_BASE, {"components": {"schemas": schemas}})])

    def compile(self, schema: Mapping[str, Any]) -> CompiledSchema:
        members = resolve(self._document, schema).get("properties", {}).keys()
        validator = jsonschema_rs.Draft202012Validator(
            _prepared(schema),
            registry=self._registry,
            mask=None if _SECRET_MEMBERS.isdisjoint(members) else _MASK,
        )
        return CompiledSchema(
            validator,
            list(self._integer_places(schema, (), ())),
            self._open_members(schema, ()),
        )

    def _integer_places(
        self, schema: Any, place: tuple[str, ...], around: tuple[int, ...]
    ) -> Iterator[tuple[str, ...]]:
        """Where a value of this schema holds integers (members of objects only: the contract
        has no arrays of integers in a request, and none in a schema that holds itself)."""
        schema = resolve(self._document, schema)
        if id(schema) in around:
            return
        kind = schema.get("type")
        if kind == "integer" or (isinstance(kind, list) and "integer" in kind):
            yield place
        for name, member in schema.get("properties", {}).items():
            yield from self._integer_places(member, (*place, name), (*around, id(schema)))

    def _open_members(self, schema: Any, around: tuple[int, ...]) -> OpenMembers:
        """The members in which anything goes, so that their numbers are the client's business."""
        schema = resolve(self._document, schema)
        if (
            schema.get("type") == "object"
            and schema.get("additionalProperties", True) is True
            and schema.keys() <= _OF_OPEN_OBJECTS
        ):
            return OPEN
        members: dict[str, OpenMembers] = {}
        if id(schema) not in around:
            for name, member in schema.get("properties", {}).items():
                below = self._open_members(member, (*around, id(schema)))
                if below is OPEN or below:
                    members[name] = below
        return members


class CompiledSchema:
    """A schema that is ready to check values."""

    __slots__ = ("_integer_places", "_validator", "is_valid", "open_members")

    def __init__(
        self, validator: Any, integer_places: list[tuple[str, ...]], open_members: OpenMembers
    ) -> None:
        self._validator = validator
        self._integer_places = integer_places
        self.open_members = open_members
        self.is_valid: Callable[[Any], bool] = validator.is_valid

    def violation(self, value: Any) -> tuple[str, str]:
        """Where a value is against the schema, and why, in words for people."""
        try:
            # The first violation only: all of them together can take a second. It carries the
            # value it concerns, which the validator can copy out of basic types only.
            self._validator.validate(with_plain_numbers(value))
        except jsonschema_rs.ValidationError as error:
            where = ".".join(shown(str(part)) for part in error.instance_path)
            return shown(where, _PLACE_LENGTH), shown(error.message, _MESSAGE_LENGTH)
        return "", "does not match the contract"

    def with_integers(self, value: Any) -> Any:
        """The same value with ``5.0`` as ``5`` wherever the schema says integer."""
        for place in self._integer_places:
            holder = value
            for name in place[:-1]:
                holder = holder.get(name) if isinstance(holder, dict) else None
            if isinstance(holder, dict) and isinstance(holder.get(place[-1]), float):
                holder[place[-1]] = int(holder[place[-1]])
        return value
