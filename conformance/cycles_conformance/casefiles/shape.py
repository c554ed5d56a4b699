"""A file against its JSON Schema, the faults in words that an author understands."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from cycles_conformance.assertions.matching import shown
from cycles_conformance.casefiles.case import KINDS
from cycles_conformance.casefiles.formats import format_file
from cycles_conformance.casefiles.templates import rows_of, templates

Place = list[str | int]


def faults(document: Any, name: str) -> list[str]:
    """What is wrong with a document by the schema of that name, in the order of the file, each with
    its place: ``case commit-x: step 2: expect/status: …``."""
    found = list(_odd_names(document, []))
    if not found:
        errors = Draft202012Validator(_schema(name)).iter_errors(document)
        found = [fault for error in errors for fault in _plainly(error)]
    # Numbers and names never meet at one depth of one place.
    found.sort(key=lambda fault: [(isinstance(token, str), token) for token in fault[0]])
    return [f"{_where(document, path)}: {what}" for path, what in found]


def _odd_names(node: Any, path: Place) -> Iterator[tuple[Place, str]]:
    """Names that are not texts: YAML reads ``on``, ``no`` and ``200`` as something else."""
    if isinstance(node, list):
        for i, element in enumerate(node):
            yield from _odd_names(element, [*path, i])
    elif isinstance(node, dict):
        for name, member in node.items():
            if isinstance(name, str):
                yield from _odd_names(member, [*path, name])
            else:
                yield (
                    path,
                    f"the name {shown(name)} is not a text (on, off, yes, no, 1 need quotes)",
                )


def _where(document: Any, path: Place) -> str:
    """``case commit-x: step 2: expect/status`` for a place; people count from 1."""
    tokens, words = list(path), []
    if len(tokens) >= 2 and tokens[0] == "cases":
        entry = document["cases"][tokens[1]]
        named = entry.get("id") if isinstance(entry, dict) else None
        words.append(f"case {named or f'number {int(tokens[1]) + 1}'}")
        tokens = tokens[2:]
        while len(tokens) >= 2 and tokens[0] in _COUNTED and isinstance(tokens[1], int):
            words.append(f"{_COUNTED[str(tokens[0])]} {tokens[1] + 1}")
            tokens = tokens[2:]
    if tokens:
        words.append("/".join(str(token) for token in tokens))
    return ": ".join(words) or "the file"


_COUNTED = {
    "steps": "step",
    "then": "step",
    "readings": "reading",
    "parallel": "request",
    "outcomes": "outcome",
    "ledger": "row",
}


def _plainly(error: ValidationError) -> Iterator[tuple[Place, str]]:
    """Place and words of what a schema found; of alternatives, what is wrong with the one that was
    meant."""
    path = list(error.absolute_path)
    if error.validator != "oneOf":
        message = error.message if len(error.message) <= 300 else error.message[:300] + "…"
        yield path, message
    elif isinstance(error.instance, dict) and error.validator_value == _kinds_in_schema():
        kinds = [kind for kind in KINDS if kind in error.instance]
        if not kinds:
            yield path, f"a step has one of {', '.join(KINDS)}"
        elif len(kinds) > 1:
            yield path, f"a step has one of {', '.join(KINDS)}, not {' and '.join(kinds)}"
        else:
            yield path, f"{kinds[0]} needs outcomes"
    else:
        # An alternative of another type, or another word, is not the one that was meant.
        unlike = ("type", "const", "enum")
        context = error.context or ()
        meant = [inner for inner in context if inner.path or inner.validator not in unlike]
        for inner in meant:
            yield from _plainly(inner)
        if not meant:
            yield path, f"{shown(error.instance)} cannot stand here"


def _kinds_in_schema() -> Any:
    return _schema("case.schema.json")["$defs"]["step"]["oneOf"]


def _schema(name: str) -> Any:
    schema = _read(name)
    if "template" in schema["$defs"]:
        schema["$defs"]["template"] = {"enum": list(templates())}
        schema["$defs"]["list"] = {"enum": [name for name in templates() if rows_of(name)]}
    return schema


@functools.cache
def _read(name: str) -> Any:
    return json.loads(format_file(name))
