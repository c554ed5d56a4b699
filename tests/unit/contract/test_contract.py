"""The contract document: valid OpenAPI 3.1, and complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from cycles_server.contract.document import OperationDocument, load_contract
from cycles_server.contract.resolver import find_handler
from cycles_server.contract.schemas import SchemaCompiler
from cycles_server.planes.runtime import RUNTIME

CONTRACT = load_contract(RUNTIME.contract)
OPERATIONS = {
    item[method]["operationId"]: OperationDocument(CONTRACT.document, path, method)
    for path, item in CONTRACT.document["paths"].items()
    for method in item
    if method in ("get", "post")
}


def test_it_is_valid_openapi() -> None:
    validate(CONTRACT.document)
    assert CONTRACT.document["openapi"].startswith("3.1")


def test_every_operation_has_a_handler() -> None:
    assert len(OPERATIONS) == 11
    for operation in OPERATIONS.values():
        assert callable(find_handler(RUNTIME.handlers, operation.tag, operation.operation_id))


def test_an_operation_without_a_handler_is_named() -> None:
    with pytest.raises(LookupError, match="launchRocket"):
        find_handler(RUNTIME.handlers, "Reservations", "launchRocket")


def test_links_lead_from_a_reserve_to_its_settlement() -> None:
    links = OPERATIONS["createReservation"].responses["200"]["links"]
    named = [
        CONTRACT.document["components"]["links"][link["$ref"].rpartition("/")[2]]
        if "$ref" in link
        else link
        for link in links.values()
    ]
    assert {link["operationId"] for link in named} == {
        "commitReservation",
        "releaseReservation",
        "extendReservation",
        "getReservation",
    }
    for link in named:
        assert link["parameters"] == {"reservation_id": "$response.body#/reservation_id"}


def examples(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every schema with an example, and the example."""
    if isinstance(node, dict):
        if "example" in node and ("type" in node or "schema" in node):
            yield node.get("schema", node), node["example"]
        if "type" in node:
            yield from ((node, example) for example in node.get("examples", ()))
        for member in node.values():
            yield from examples(member)
    elif isinstance(node, list):
        for item in node:
            yield from examples(item)


def test_its_examples_follow_their_schemas() -> None:
    compiler = SchemaCompiler(CONTRACT.document)
    found = list(examples(CONTRACT.document))
    assert len(found) >= 10
    for schema, example in found:
        compiled = compiler.compile(schema)
        assert compiled.is_valid(example), compiled.violation(example)
