"""Bodies that are hardly JSON, or not what the contract says: 400 by name, nothing is stored."""

from __future__ import annotations

import gzip
import json

import pytest
from support.edges import MUTATIONS, Prepared, check_error, post_bytes, prepare, with_member
from support.tenants import Tenant

POSTS = (*MUTATIONS, "decide")
INVALID = (400, "INVALID_REQUEST")
INT64_MAX = 2**63 - 1

NO_JSON = (
    b" ",
    b"\xff\xfe{}",
    b"\x00",
    b"/**/{}",
    "{}".encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"\xef\xbb\xbf",
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
        "two byte order marks": b"\xef\xbb\xbf" * 2 + good,
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


def test_a_byte_order_mark_is_no_part_of_the_body(tenant: Tenant) -> None:
    body = json.dumps(tenant.reserve_body()).encode()
    first = post_bytes(tenant, b"\xef\xbb\xbf" + body)
    assert first.status_code == 200, first.text
    assert post_bytes(tenant, body).json()["reservation_id"] == first.json()["reservation_id"]


CONTENT_TYPES = {
    "application/json": True,
    "application/json; charset=utf-8": True,
    'application/json;charset="UTF-8"': True,
    "APPLICATION/JSON": True,
    "application/json;": True,
    "application/json ; x": True,
    "application/json; version=1": True,
    "application/json;version=1;charset=UTF-8;x": True,
    'application/json; profile="a;b\\"; charset=latin-1"; charset = utf8': True,
    'application/json; x="unfinished; charset=utf-8': True,
    'application/json\t;\tCharset="utf-\\8"': True,
    "application/json; =": True,
    None: False,
    "": False,
    "text/plain": False,
    "application/x-www-form-urlencoded": False,
    "multipart/form-data; boundary=x": False,
    "application/problem+json": False,
    "application/jsonx": False,
    "application/json; charset=latin-1": False,
    "application/json; charset": False,
    'application/json; profile="x"; charset="utf-16"': False,
    "application/json; charset=utf-8; CHARSET=us-ascii": False,
    "application /json": False,
    "; charset=utf-8": False,
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


def test_an_unknown_charset_is_named(tenant: Tenant) -> None:
    for charset in ("iso-8859-1", "UTF-16", "x" * 3000):
        answer = post_bytes(
            tenant,
            json.dumps(tenant.reserve_body()),
            content_type=f"application/json; charset={charset}",
        )
        message = check_error(answer, *INVALID)["message"]
        assert f"charset {charset[:40]}" in message
        assert len(message) < 200


def test_a_compressed_body_is_refused_by_name(tenant: Tenant) -> None:
    body = json.dumps(tenant.reserve_body()).encode()
    headers = {"Content-Type": "application/json"}
    for coding in ("gzip", "br", "GZIP", "identity, gzip", "x" * 3000):
        headers["Content-Encoding"] = coding
        content = gzip.compress(body) if coding == "gzip" else body
        answer = tenant.http.post("/v1/reservations", content=content, headers=headers)
        message = check_error(answer, *INVALID)["message"]
        assert message.startswith("Content-Encoding: ")
        assert len(message) < 200
    for coding in ("identity", "Identity", ""):
        headers["Content-Encoding"] = coding
        assert tenant.http.post("/v1/reservations", content=body, headers=headers).is_success


def refuse(tenant: Tenant, request: Prepared, place: str, literal: str) -> str:
    """The message for a body with this JSON literal at a dotted place."""
    answer = post_bytes(tenant, with_member(request, place, literal), path=request.path)
    return str(check_error(answer, *INVALID)["message"])


@pytest.mark.parametrize("operation", POSTS)
def test_a_member_given_twice(tenant: Tenant, operation: str) -> None:
    """The contract lets a server take it; this one refuses it, at any depth."""
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
def test_a_missing_unknown_or_null_member_is_named(tenant: Tenant, operation: str) -> None:
    """That it is refused is the kit's to check (``bodies.yaml``); here, what the client is told."""
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


# -- numbers -------------------------------------------------------------------------------------

NO_NUMBERS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e999",
    "[1e308,1e309]",
    "1e99999999999999999999",
    "-1E+99999999999999999999",
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 5000,
    "1" * 4000 + ".5",
    '{"a":[{"b":1e400}]}',
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "0x10",
    "1_000",
    "\u0661",
)
# Taken where the contract leaves an object open, and nowhere else.
UNKEEPABLE = (
    "0e99999999999999999999",
    "1e-99999999999999999999",
    "5e-324000",
    str(INT64_MAX + 1),
    str(-INT64_MAX - 2),
    "9" * 300,
    "0." + "1" * 400,
    "0.12345678901234567890",
    "9007199254740993.0",
    "9007199254740994.0",
)


@pytest.mark.parametrize("operation", POSTS)
def test_numbers_that_would_not_be_kept(tenant: Tenant, operation: str) -> None:
    request = prepare(tenant, operation)
    assert request.body is not None
    amount = next((name for name in ("estimate", "actual") if name in request.body), None)
    places = ["reason"] if operation == "releaseReservation" else []
    if operation in ("commitReservation", "createEvent"):
        places.append("metrics.tokens_input")
    if amount:
        places.append(f"{amount}.amount")
    open_places = [] if operation == "releaseReservation" else ["metadata.x"]
    if operation in ("commitReservation", "createEvent"):
        open_places.append("metrics.custom.x")
    before = tenant.amounts()
    for literals, at in ((NO_NUMBERS, places + open_places), (UNKEEPABLE, places)):
        for literal in literals:
            for place in at:
                message = refuse(tenant, request, place, literal)
                assert len(message) < 400
    assert tenant.amounts() == before
    assert request.send(tenant.http).is_success


def test_the_message_names_the_member(tenant: Tenant) -> None:
    request = prepare(tenant, "createReservation")
    assert "metadata.a.b[1].c" in refuse(tenant, request, "metadata", '{"a":{"b":[0,{"c":1e400}]}}')
    assert "metadata.a[0][1]" in refuse(tenant, request, "metadata", '{"a":[[1,-1e309]]}')
    assert "estimate.amount" in refuse(tenant, request, "estimate.amount", str(2**63))
    assert "estimate.amount" in refuse(tenant, request, "estimate.amount", "5.5")
    for place in ("idempotency_key", "subject.agent", "action.name", "action.kind"):
        assert f"{place}: " in refuse(tenant, request, place, r'"a\ud83d"')
    assert "action.tags[1]: " in refuse(tenant, request, "action.tags", r'["a", "\ude00\ud83d"]')
    assert "subject.\ufffd: " in refuse(tenant, request, "subject", r'{"\ud83d": "a"}')
    request = prepare(tenant, "releaseReservation")
    assert "reason: " in refuse(tenant, request, "reason", r'"\ud83d"')


def test_a_message_stays_short(tenant: Tenant) -> None:
    """However long the name or the value that it is about."""
    request = prepare(tenant, "createReservation")
    name, deep = "n" * 200_000, '{"a":' * 90 + "1e400" + "}" * 90
    for place, literal in (
        ("metadata", f'{{"{name}":1e400}}'),
        ("metadata", deep),
        ("metadata", f'{{"{name}":1,"{name}":2}}'),
        ("subject.dimensions", f'{{"{name}":5}}'),
        ("estimate.unit", f'"{name}"'),
        (name, "1"),
    ):
        assert len(refuse(tenant, request, place, literal)) < 600


AMOUNTS: dict[str, int | None] = {
    "-0": 0,
    "-0.0": 0,
    "0.0": 0,
    "0e0": 0,
    "5.0": 5,
    "5e0": 5,
    "0.5e1": 5,
    "1E2": 100,
    "1.5e1": 15,
    f"{2**53}.0": 2**53,
    f"{2**53 + 2}.0": None,
    "9.2e18": None,
    f"{INT64_MAX}.0": None,
    "1e19": None,
    "0.1": None,
    "1e-1": None,
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
