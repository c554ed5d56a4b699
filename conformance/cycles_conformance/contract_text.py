"""The words of a contract by place: what clauses quote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cycles_conformance.values import MISSING, at_pointer

if TYPE_CHECKING:
    from cycles_conformance.contract import Contract


HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
_BULLET = re.compile(r"(?m)^\s*(?:[-*]|\d+\.)\s+")
_KINDS = {
    "schemas": "schema",
    "parameters": "parameter",
    "headers": "header",
    "responses": "response",
}


def texts(contract: Contract) -> Iterator[tuple[str, str]]:
    """Every place of the contract that a clause can name, with its words, in the contract's order.

    A place is the title of a section of the introduction, an operationId, or a component
    (``schema Name``, ``parameter Name``, ``header Name``, ``response Name``).
    """
    document = contract.document
    yield from _sections(str(document.get("info", {}).get("description", "")))
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "operationId" in operation:
                yield operation["operationId"], "\n\n".join(_descriptions(operation))
    for group, kind in _KINDS.items():
        for name, component in document.get("components", {}).get(group, {}).items():
            yield f"{kind} {name}", "\n\n".join(_descriptions(component))


def declared(contract: Contract, place: str, pointer: str) -> Any:
    """What stands at a JSON pointer from a place (an operation or a component), references
    followed; MISSING where nothing does. What stands beside a reference comes first. A parameter is
    found by its name: ``/parameters/limit``."""
    node = _node(contract.document, place)
    for token in pointer.split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = {one["name"]: one for one in node if isinstance(one, dict) and "name" in one}
        while isinstance(node, dict) and token not in node and "$ref" in node:
            node = at_pointer(contract.document, node["$ref"].removeprefix("#"))
        if not isinstance(node, dict) or token not in node:
            return MISSING
        node = node[token]
    while isinstance(node, dict) and node.keys() == {"$ref"}:
        node = at_pointer(contract.document, node["$ref"].removeprefix("#"))
    return node


def _node(document: Mapping[str, Any], place: str) -> Any:
    kind, _, name = place.partition(" ")
    for group, its_kind in _KINDS.items():
        if kind == its_kind and name in document.get("components", {}).get(group, {}):
            return document["components"][group][name]
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and operation.get("operationId") == place:
                return operation
    return MISSING


def plain(text: str) -> str:
    """One line, without the marks of lists: the form in which quotes are compared."""
    return " ".join(_BULLET.sub("", text).split())


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """A section's own words and those of its subsections, by its title."""
    headings = [(m.start(), m.end(), m.group(0), m.group(1)) for m in HEADING.finditer(text)]
    for i, (_, end, marks, title) in enumerate(headings):
        depth = len(marks) - len(marks.lstrip("#"))
        following = (
            start
            for start, _, other, _ in headings[i + 1 :]
            if len(other) - len(other.lstrip("#")) <= depth
        )
        yield title.strip(), text[end : next(following, len(text))]


def _descriptions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("description", "summary") and isinstance(value, str):
                yield value
            elif name != "example":
                yield from _descriptions(value)
    elif isinstance(node, list):
        for element in node:
            yield from _descriptions(element)
