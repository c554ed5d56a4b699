"""Bodies that are no JSON, or not what the contract says: 400, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.edges import MUTATIONS, Prepared, check_error, post_bytes, prepare, with_member
from support.tenants import Tenant, new_key

POSTS = (*MUTATIONS, "decide")
INVALID = (400, "INVALID_REQUEST")
INT64_MAX = 2**63 - 1

NO_JSON = (
    b"",
    b" ",
    b"{not json",
    b'{"a":1',
    b"[]",
    b'"x"',
    b"1",
    b"null",
    b"true",
    b"{}x",
    b"{'a':1}",
    b'{"a":1,}',
    b"\xff\xfe{}",
    b"\x00",
    b"/**/{}",
    "{}".encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
)


@pytest.mark.parametrize("operation", POSTS)
def test_what_is_no_json_object(tenant: Tenant, operation: str) -> None:
    path = prepare(tenant, operation).path
    for body in NO_JSON:
        check_error(post_bytes(tenant, body, path=path), *INVALID)


def test_a_good_body_spoiled(tenant: Tenant) -> None:
    before = tenant.amounts()
    request = prepare(tenant, "createReservation")
    good = json.dumps(request.body).encode()
    spoiled = {
        "byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "bad UTF-8": good.replace(b"llm.completion", b"llm.\xff\xfe"),
        "overlong UTF-8": good.replace(b"llm.completion", b"llm.\xc0\xaf"),
        "raw control character": good.replace(b"llm.completion", b"llm.\n"),
        "lone surrogate": good.replace(b"llm.completion", b"llm.\\ud800"),
        "reversed surrogates": good.replace(b"llm.completion", b"llm.\\udc00\\ud800"),
        "something behind it": good + b"{}",
        "cut off": good[:-1],
    }
    for what, body in spoiled.items():
        answer = post_bytes(tenant, body)
        assert answer.status_code == 400, what
        check_error(answer, *INVALID)
    assert tenant.amounts() == before
    # No failed call has used the key up.
    assert post_bytes(tenant, good + b" \r\n\t").status_code == 200


CONTENT_TYPES = {
    "application/json": True,
    "application/json; charset=utf-8": True,
    'application/json;charset="UTF-8"': True,
    "APPLICATION/JSON": True,
    None: False,
    "": False,
    "text/plain": False,
    "application/x-www-form-urlencoded": False,
    "multipart/form-data; boundary=x": False,
    "application/problem+json": False,
    "application/jsonx": False,
    "application/json; charset=latin-1": False,
    "application/json, text/plain": False,
    "*/*": False,
    "\u00fc": False,
}


@pytest.mark.parametrize(("content_type", "good"), CONTENT_TYPES.items())
def test_content_type(tenant: Tenant, content_type: str | None, good: bool) -> None:
    answer = post_bytes(tenant, json.dumps(tenant.reserve_body()), content_type=content_type)
    if good:
        assert answer.status_code == 200, answer.text
    else:
        assert "Content-Type" in check_error(answer, *INVALID)["message"]


def refuse(tenant: Tenant, request: Prepared, place: str, literal: str) -> str:
    """The message for a body with this JSON literal at a dotted place."""
    answer = post_bytes(tenant, with_member(request, place, literal), path=request.path)
    return str(check_error(answer, *INVALID)["message"])


@pytest.mark.parametrize("operation", POSTS)
def test_a_member_given_twice(tenant: Tenant, operation: str) -> None:
    request = prepare(tenant, operation)
    good = json.dumps(request.body)
    key = json.dumps(request.body["idempotency_key"]) if request.body else ""
    for twice in (
        good.replace("{", f'{{"idempotency_key":{key},', 1),
        good.replace("{", '{"idempotency\\u005fkey":"k",', 1),
        good[:-1] + ',"metadata":{"a":1,"a":1}}',
        good[:-1] + ',"metadata":{"deep":[{"b":{"a":1,"a":2}}]}}',
    ):
        assert "duplicate" in str(
            check_error(post_bytes(tenant, twice, path=request.path), *INVALID)
        )
    assert request.send(tenant.http).is_success


@pytest.mark.parametrize("operation", POSTS)
def test_missing_unknown_and_null_members(tenant: Tenant, operation: str) -> None:
    request = prepare(tenant, operation)
    assert request.body is not None
    for member in request.body:
        without = {name: value for name, value in request.body.items() if name != member}
        answer = tenant.http.post(request.path, json=without)
        assert member in check_error(answer, *INVALID)["message"]
        assert member in refuse(tenant, request, member, "null")
    optional = ("metadata", "metrics", "reason", "ttl_ms", "overage_policy", "dry_run")
    for member in optional:
        assert member in refuse(tenant, request, member, "null")
    assert "surplus" in refuse(tenant, request, "surplus", "1")
    for member in ("subject", "action", "estimate", "actual"):
        if member in request.body:
            assert "surplus" in refuse(tenant, request, f"{member}.surplus", "1")
            for inner in request.body[member]:
                assert inner in refuse(tenant, request, f"{member}.{inner}", "null")
    assert request.send(tenant.http).is_success


# -- numbers -------------------------------------------------------------------------------------

UNKEEPABLE = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e999",
    "[1e308,1e309]",
    "1e99999999999999999999",
    "-1E+99999999999999999999",
    "0e99999999999999999999",
    "1e-99999999999999999999",
    "5e-324000",
    str(INT64_MAX + 1),
    str(-INT64_MAX - 2),
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 5000,
    "0." + "1" * 400,
    "0.12345678901234567890",
    "9007199254740993.0",
    "9007199254740994.0",
    "1" * 4000 + ".5",
    '{"a":[{"b":1e400}]}',
    "01",
    "1.",
    ".5",
    "+1",
    "0x10",
    "1_000",
    "\u0661",
)


@pytest.mark.parametrize("operation", POSTS)
def test_numbers_that_would_not_be_kept(tenant: Tenant, operation: str) -> None:
    request = prepare(tenant, operation)
    assert request.body is not None
    amount = next((name for name in ("estimate", "actual") if name in request.body), None)
    places = ["metadata.x"] if operation != "releaseReservation" else ["reason"]
    if operation in ("commitReservation", "createEvent"):
        places += ["metrics.custom.x", "metrics.tokens_input"]
    if amount:
        places.append(f"{amount}.amount")
    before = tenant.amounts()
    for literal in UNKEEPABLE:
        for place in places:
            message = refuse(tenant, request, place, literal)
            assert len(message) < 400
    assert tenant.amounts() == before
    assert request.send(tenant.http).is_success


def test_the_message_names_the_member(tenant: Tenant) -> None:
    request = prepare(tenant, "createReservation")
    assert "metadata.a.b[1].c" in refuse(tenant, request, "metadata", '{"a":{"b":[0,{"c":1e400}]}}')
    assert "metadata.a[0][1]" in refuse(tenant, request, "metadata", f'{{"a":[[1,{10**19}]]}}')
    assert "estimate.amount" in refuse(tenant, request, "estimate.amount", str(2**63))
    assert "estimate.amount" in refuse(tenant, request, "estimate.amount", "5.5")


AMOUNTS: dict[str, int | None] = {
    "0": 0,
    "-0": 0,
    "-0.0": 0,
    "0.0": 0,
    "0e0": 0,
    "5": 5,
    "5.0": 5,
    "5e0": 5,
    "0.5e1": 5,
    "1E2": 100,
    "1.5e1": 15,
    str(2**53 - 1): 2**53 - 1,
    str(2**53): 2**53,
    str(2**53 + 1): 2**53 + 1,
    f"{2**53}.0": 2**53,
    str(INT64_MAX): INT64_MAX,
    f"{2**53 + 2}.0": None,
    "9.2e18": None,
    f"{INT64_MAX}.0": None,
    str(INT64_MAX + 1): None,
    "1e19": None,
    "5.5": None,
    "0.1": None,
    "1e-1": None,
    '"5"': None,
    '""': None,
    "true": None,
    "false": None,
    "null": None,
    "[]": None,
    "{}": None,
    "-1": None,
    "-1.0": None,
    str(-INT64_MAX - 1): None,
}


@pytest.mark.parametrize(("literal", "expected"), AMOUNTS.items())
def test_amounts(tenant: Tenant, literal: str, expected: int | None) -> None:
    tenant.budget(allocated=INT64_MAX)
    for operation in ("createReservation", "createEvent", "decide"):
        request = prepare(tenant, operation)
        assert request.body is not None
        place = "actual" if "actual" in request.body else "estimate"
        body = with_member(request, f"{place}.amount", literal)
        answer = post_bytes(tenant, body, path=request.path)
        if expected is None:
            assert f"{place}.amount" in check_error(answer, *INVALID)["message"]
            continue
        assert answer.is_success, answer.text
        tenant.budget(allocated=INT64_MAX)
        if operation == "createReservation":
            assert answer.json()["reserved"] == {"unit": "TOKENS", "amount": expected}
            assert f'"amount":{expected}' in answer.text
            # One number, whatever it is written like: the same request.
            again = dict(request.body, estimate={"unit": "TOKENS", "amount": expected})
            replay = tenant.http.post(request.path, json=again)
            assert replay.json()["reservation_id"] == answer.json()["reservation_id"]


def test_other_integers_may_be_written_with_a_fraction(tenant: Tenant) -> None:
    request = prepare(tenant, "createReservation")
    for place, literal in (("ttl_ms", "60000.0"), ("grace_period_ms", "1e3")):
        body = with_member(request, place, literal)
        assert post_bytes(tenant, body).status_code in (200, 409)
    request = prepare(tenant, "extendReservation")
    body = with_member(request, "extend_by_ms", "1e3")
    assert post_bytes(tenant, body, path=request.path).is_success
    for literal in ("0", "-1", "86400001", "1.5", '"1000"', "true", "9.3e18"):
        assert "extend_by_ms" in refuse(tenant, request, "extend_by_ms", literal)
    request = prepare(tenant, "createEvent")
    body = with_member(request, "client_time_ms", str(INT64_MAX))
    assert post_bytes(tenant, body, path=request.path).status_code == 201
    for literal in ("-1", "1.5", str(2**63), '"1"'):
        assert "client_time_ms" in refuse(tenant, request, "client_time_ms", literal)


def test_deep_nesting(tenant: Tenant) -> None:
    for depth in (1, 50, 150, 190, 196, 198, 199, 200, 250, 1000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            nested = opening * depth + "1" + closing * depth
            body: dict[str, Any] = tenant.reserve_body(
                idempotency_key=new_key(), metadata={"x": "@"}
            )
            text = json.dumps(body).replace('"@"', nested)
            answer = post_bytes(tenant, text)
            if answer.status_code == 400:
                assert depth > 100
                check_error(answer, *INVALID)
                continue
            reservation = answer.json()["reservation_id"]
            for shown in (
                tenant.get(reservation).json(),
                tenant.list(include="metadata").json()["reservations"][0],
            ):
                assert json.dumps(shown["metadata"]["x"]) == json.dumps(json.loads(nested))
            assert post_bytes(tenant, text).json()["reservation_id"] == reservation
            assert tenant.release(reservation).is_success
