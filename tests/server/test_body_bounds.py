"""Bodies with very much in them: refused by name before anything is made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.edges import check_error, post_bytes, prepare, with_member
from support.running import StartServer
from support.tenants import Tenant, new_key

INVALID = (400, "INVALID_REQUEST")
MOST_VALUES = 10_000
MOST_DEPTH = 128


def members(count: int, value: str = "1") -> str:
    return ",".join(f'"{number:06}":{value}' for number in range(count))


def refusal(tenant: Tenant, body: str) -> str:
    message: str = check_error(post_bytes(tenant, body), *INVALID)["message"]
    assert len(message) < 600
    return message


def with_literal(tenant: Tenant, place: str, literal: str) -> str:
    return with_member(prepare(tenant, "createReservation"), place, literal)


def test_deep_nesting(tenant: Tenant) -> None:
    """The body is one level, metadata the next."""
    for depth in (1, 50, MOST_DEPTH - 2, MOST_DEPTH - 1, 200, 1000, 100_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            nested = opening * depth + "1" + closing * depth
            body: dict[str, Any] = tenant.reserve_body(
                idempotency_key=new_key(), metadata={"x": "@", "y": "[{" * 500}
            )
            text = json.dumps(body).replace('"@"', nested)
            if depth > MOST_DEPTH - 2:
                assert "metadata.x" in refusal(tenant, text)
                continue
            answer = post_bytes(tenant, text)
            assert answer.status_code == 200, answer.text
            reservation = answer.json()["reservation_id"]
            for shown in (
                tenant.get(reservation).json(),
                tenant.list(include="metadata").json()["reservations"][0],
            ):
                assert json.dumps(shown["metadata"]["x"]) == json.dumps(json.loads(nested))
            assert post_bytes(tenant, text).json()["reservation_id"] == reservation
            assert tenant.release(reservation).is_success


def test_unclosed_brackets(tenant: Tenant) -> None:
    for body in ("[" * 1_000_000, '{"a":' * 200_000, "[]" * 500_000, "]" * 1_000_000, "," * 10**6):
        refusal(tenant, body)


# The body itself has four members, and below them one, two and two.
SPARE = MOST_VALUES - 4 - 1 - 2 - 2


@pytest.mark.parametrize(
    ("place", "literal", "named"),
    [
        ("metadata", "{" + members(SPARE) + "}", "metadata"),
        ("metadata.x", "[" + "1," * (SPARE - 1) + "1]", "metadata.x"),
        ("metadata.a.b", '[{"c":1}' + ',{"c":1}' * (SPARE // 2) + "]", "metadata.a.b"),
        ("metadata.x", "[" + "[ ]," * SPARE + "1]", "metadata.x"),
        ("subject.dimensions", "{" + members(SPARE + 9, '"x"') + "}", "subject.dimensions"),
        ("surplus", "[" + '"",' * 300_000 + '""]', "surplus"),
    ],
)
def test_too_many_values(tenant: Tenant, place: str, literal: str, named: str) -> None:
    message = refusal(tenant, with_literal(tenant, place, literal))
    assert message.startswith(f"body: {named}")
    assert str(MOST_VALUES) in message


def test_too_many_unknown_members(tenant: Tenant) -> None:
    body = json.dumps(tenant.reserve_body())[:-1]
    assert str(MOST_VALUES) in refusal(tenant, f"{body},{members(70_000)}}}")
    assert "000000" in refusal(tenant, f"{body},{members(5_000)}}}")
    # What is no JSON is told so, not that there is too much of it.
    assert "JSON" in refusal(tenant, f"{body},nonsense,{members(70_000)}}}")


@pytest.mark.parametrize(
    "literal",
    [
        "{" + members(SPARE - 1) + "}",
        '{"x":[' + "1, " * (SPARE - 3) + "1]}",
        '{"text":"' + r"a,[{\"\\" * 20_000 + '"}',
        '{"text":"' + ",[{:" * 100_000 + '"}',
        '{"x":[' + '"," ,' * (SPARE - 3) + '"\\\\"]}',
    ],
)
def test_what_may_be_sent(tenant: Tenant, literal: str) -> None:
    """Up to the bound; commas and brackets within texts do not count."""
    answer = post_bytes(tenant, with_literal(tenant, "metadata", literal))
    assert answer.status_code == 200, answer.text
    shown = tenant.get(answer.json()["reservation_id"]).json()
    assert shown["metadata"] == json.loads(literal)


def test_the_bounds_are_settings(start: StartServer) -> None:
    tenant = start(CYCLES_MAX_BODY_VALUES="100", CYCLES_MAX_BODY_DEPTH="8").tenant()
    tenant.budget()
    assert tenant.reserve(metadata={"x": [1] * 88}).status_code == 200
    check_error(tenant.reserve(metadata={"x": [1] * 100}), *INVALID)
    assert tenant.reserve(metadata={"x": [[[[[[]]]]]]}).status_code == 200
    check_error(tenant.reserve(metadata={"x": [[[[[[[]]]]]]]}), *INVALID)
