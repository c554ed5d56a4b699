"""What clients put into open maps comes back as it was: JSON passes around the scripts."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.edges import check_error, post_bytes
from support.tenants import Tenant, new_key

ODD: dict[str, Any] = {
    "a": [],
    "b": {},
    "c": [[], {}, [[]], [{}]],
    "d": None,
    "": "empty name",
    "e": [None, True, False],
    "floats": [0.1, -0.5, 1.5e-7, 3.141592653589793, 1e-300],
    "integers": [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "text": 'ü 😀 \u2028 \x00 \x7f \\ " / </script>',
    "ü.$:{}": {"[]": ["{}"]},
    "number as text": "007",
    "sequence": {"1": "a", "2": "b"},
}


def raw(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return json.loads(answer.text)


def test_metadata_of_a_reservation(tenant: Tenant) -> None:
    action = {"kind": "k", "name": "n", "tags": []}
    body = tenant.reserve_body(metadata=ODD, action=action)
    first = raw(tenant.http.post("/v1/reservations", json=body))
    again = raw(tenant.http.post("/v1/reservations", json=body))
    assert again["reservation_id"] == first["reservation_id"]
    detail = raw(tenant.get(first["reservation_id"]))
    assert json.dumps(detail["metadata"]) == json.dumps(ODD)
    assert detail["action"] == action
    [row] = raw(tenant.list(include="metadata"))["reservations"]
    assert json.dumps(row["metadata"]) == json.dumps(ODD)
    assert row["action"] == action
    assert "metadata" not in raw(tenant.list())["reservations"][0]


def test_metadata_of_a_commit(tenant: Tenant) -> None:
    reservation = tenant.reserved(action={"kind": "k", "name": "n", "tags": ["", "a,b"]})
    members = {"metadata": ODD, "metrics": {"custom": ODD, "tokens_input": 0}}
    key = new_key()
    first = tenant.commit(reservation, 1, idempotency_key=key, **members)
    again = tenant.commit(reservation, 1, idempotency_key=key, **members)
    assert (first.status_code, first.text) == (200, again.text)
    detail = raw(tenant.get(reservation))
    assert json.dumps(detail["committed_metadata"]) == json.dumps(ODD)
    assert detail["action"]["tags"] == ["", "a,b"]
    assert "metadata" not in detail
    [row] = raw(tenant.list(include="committed_metadata", status="COMMITTED"))["reservations"]
    assert json.dumps(row["committed_metadata"]) == json.dumps(ODD)
    stored = tenant.redis.hget(tenant.names.reservation(reservation), "committed_metrics_json")
    assert json.loads(stored) == members["metrics"]


def test_maps_of_an_event_and_an_extension(tenant: Tenant) -> None:
    members = {"metadata": ODD, "metrics": {"custom": ODD}}
    key = new_key()
    first = tenant.event(5, idempotency_key=key, **members)
    assert tenant.event(5, idempotency_key=key, **members).text == first.text
    stored = tenant.redis.hgetall(tenant.names.event(raw(first)["event_id"]))
    assert json.loads(stored[b"metadata_json"]) == ODD
    assert json.loads(stored[b"metrics_json"]) == {"custom": ODD}
    reservation = tenant.reserved()
    first = tenant.extend(reservation, 1000, idempotency_key=key, metadata=ODD)
    again = tenant.extend(reservation, 1000, idempotency_key=key, metadata=ODD)
    assert raw(first)["expires_at_ms"] == raw(again)["expires_at_ms"]


def test_empty_maps_are_kept(tenant: Tenant) -> None:
    reservation = tenant.reserved(
        metadata={}, subject=tenant.subject(agent="a") | {"dimensions": {}}
    )
    assert tenant.commit(reservation, 1, metadata={}).is_success
    detail = raw(tenant.get(reservation))
    assert (detail["metadata"], detail["committed_metadata"]) == ({}, {})
    assert detail["subject"]["dimensions"] == {}


def test_dimensions_come_back(tenant: Tenant) -> None:
    dimensions = {"Cost Center": "Ü / 7", "": "", "a:b": "{}", "b": "[]"}
    subject = {**tenant.subject(agent="Bot"), "dimensions": dimensions}
    detail = raw(tenant.get(tenant.reserved(subject=subject)))
    assert detail["subject"] == subject
    assert list(detail["subject"]["dimensions"]) == list(dimensions)


# -- numbers and texts as they were written --------------------------------------------------------

NUMBERS = (
    "1.0",
    "-0.0",
    "-0",
    "1.10",
    "1e2",
    "1E+2",
    "1e21",
    "1e-7",
    "123456789012345.5",
    "0.12345678901234567890",
    "0.1000000000000000055511151231257827",
    str(2**53 + 1),
    f"{2**53 + 1}.0",
    str(2**63),
    "17293822569102704640",
    str(2**64),
    str(-(2**63) - 1),
    "9" * 300,
    "1.7976931348623157e308",
    "5e-324",
    "1e-999999",
)
AS_SENT = "{" + ",".join(f'"n{place}":{text}' for place, text in enumerate(NUMBERS)) + "}"
NESTED = f'{{"a":[{AS_SENT},[{",".join(NUMBERS)}]],"b":{{"":{AS_SENT}}}}}'


def posted(tenant: Tenant, path: str, body: dict[str, Any], literal: str) -> httpx.Response:
    """Send a body with this JSON in place of each ``"@"``."""
    return post_bytes(tenant, json.dumps(body).replace('"@"', literal), path=path)


def inside(answer: httpx.Response, member: str) -> str:
    """The text of a member whose JSON has no blanks and is followed by another or the end."""
    assert answer.is_success, answer.text
    _, found, rest = answer.text.partition(f'"{member}":')
    assert found, answer.text
    return rest


@pytest.mark.parametrize("literal", [AS_SENT, NESTED], ids=["flat", "nested"])
def test_numbers_keep_their_digits(tenant: Tenant, literal: str) -> None:
    body = tenant.reserve_body(metadata="@")
    first = posted(tenant, "/v1/reservations", body, literal)
    reservation = raw(first)["reservation_id"]
    assert raw(posted(tenant, "/v1/reservations", body, literal))["reservation_id"] == reservation
    commit = {
        "idempotency_key": new_key(),
        "actual": {"unit": "TOKENS", "amount": 7},
        "metadata": "@",
        "metrics": {"custom": "@", "tokens_input": 3},
    }
    path = f"/v1/reservations/{reservation}/commit"
    first = posted(tenant, path, commit, literal)
    assert raw(first)["charged"]["amount"] == 7
    assert posted(tenant, path, commit, literal).text == first.text
    shown = tenant.get(reservation)
    listed = tenant.list(include="metadata,committed_metadata")
    for member in ("metadata", "committed_metadata"):
        assert inside(shown, member).startswith(literal)
        assert inside(listed, member).startswith(literal)
    row = tenant.redis.hgetall(tenant.names.reservation(reservation))
    assert row[b"committed_metrics_json"].decode() == f'{{"custom":{literal},"tokens_input":3}}'
    event = {**commit, **tenant.reserve_body(metadata="@")}
    del event["estimate"]
    first = posted(tenant, "/v1/events", event, literal)
    stored = tenant.redis.hgetall(tenant.names.event(raw(first)["event_id"]))
    assert stored[b"metadata_json"].decode() == literal
    assert posted(tenant, "/v1/events", event, literal).text == first.text
    assert tenant.amounts()["spent"] == 14
    extend = {"idempotency_key": new_key(), "extend_by_ms": 1000, "metadata": "@"}
    path = f"/v1/reservations/{tenant.reserved()}/extend"
    assert raw(posted(tenant, path, extend, literal)) is not None
    assert raw(posted(tenant, "/v1/decide", tenant.reserve_body(metadata="@"), literal))


def test_every_number_is_its_own(tenant: Tenant) -> None:
    """Written otherwise, it is another request: nobody is told that 2^53 and 2^53 + 1 are one."""
    written = [*NUMBERS, str(2**53), "1.1", "100", "1", str(2**64 + 1), "1e22"]
    body = tenant.reserve_body(metadata={"x": "@"})
    first = raw(posted(tenant, "/v1/reservations", body, written[0]))
    for literal in written[1:]:
        answer = posted(tenant, "/v1/reservations", body, literal)
        assert answer.json()["error"] == "IDEMPOTENCY_MISMATCH", literal
    again = raw(posted(tenant, "/v1/reservations", body, written[0]))
    assert again["reservation_id"] == first["reservation_id"]


def test_half_a_pair_becomes_the_replacement_character(tenant: Tenant) -> None:
    literal = r'{"cut":"a\ud83d","\uD83Dkey":["\ude00\ud83d", 1e99, {"\udfff":"\ud83d\ude00"}]}'
    kept = {"cut": "a\ufffd", "\ufffdkey": ["\ufffd\ufffd", 1e99, {"\ufffd": "\U0001f600"}]}
    reservation = tenant.reserved(metadata={})
    commit = {
        "idempotency_key": new_key(),
        "actual": {"unit": "TOKENS", "amount": 7},
        "metadata": "@",
        "metrics": {"custom": "@"},
    }
    path = f"/v1/reservations/{reservation}/commit"
    first = posted(tenant, path, commit, literal)
    assert raw(first)["charged"]["amount"] == 7
    assert posted(tenant, path, commit, literal).text == first.text
    assert raw(tenant.get(reservation))["committed_metadata"] == kept
    [row] = raw(tenant.list(include="committed_metadata"))["reservations"]
    assert row["committed_metadata"] == kept
    stored = tenant.redis.hget(tenant.names.reservation(reservation), "committed_metrics_json")
    assert json.loads(stored) == {"custom": kept}
    # Two names that become one would be a member given twice.
    twice = posted(
        tenant, "/v1/decide", tenant.reserve_body(metadata="@"), r'{"\ud83d":1,"\ud83e":2}'
    )
    message = check_error(twice, 400, "INVALID_REQUEST")["message"]
    assert "metadata" in message
    assert "duplicate" in message


def test_what_another_server_kept_is_passed_on(tenant: Tenant) -> None:
    reservation = tenant.reserved()
    record = tenant.names.reservation(reservation)
    for stored in (f'{{ "x" : {"7" * 400} ,\n"y":1.50}}', "{}", '{"a":{"a":1,"a":2}}'):
        tenant.redis.hset(record, "metadata_json", stored)
        shown = tenant.get(reservation)
        assert inside(shown, "metadata").startswith(stored)
        assert inside(tenant.list(include="metadata"), "metadata").startswith(stored)
        assert shown.json()["status"] == "ACTIVE"
    for nothing in ("", "null"):
        tenant.redis.hset(record, "metadata_json", nothing)
        assert "metadata" not in raw(tenant.get(reservation))
        assert "metadata" not in raw(tenant.list(include="metadata"))["reservations"][0]
    for damaged in ("[]", "1", '"x"', "{", '{"a":NaN}', "{}{}", '{"a":"\xff"}'):
        tenant.redis.hset(record, "metadata_json", damaged.encode("latin-1"))
        check_error(tenant.get(reservation), 500, "INTERNAL_ERROR")
        assert raw(tenant.list(include="metadata"))["reservations"] == []
        assert len(raw(tenant.list())["reservations"]) == 1


def test_another_map_is_another_request(tenant: Tenant) -> None:
    """Also where the difference is one that a careless reader would not see."""
    pairs: list[tuple[Any, Any]] = [
        ([], {}),
        (None, "null"),
        (2**53, 2**53 + 1),
        (0, False),
        ("1", 1),
        ([1, 2], [2, 1]),
    ]
    for one, other in pairs:
        body = tenant.reserve_body(metadata={"x": one})
        assert tenant.http.post("/v1/reservations", json=body).status_code == 200
        answer = tenant.http.post("/v1/reservations", json=body | {"metadata": {"x": other}})
        assert answer.json()["error"] == "IDEMPOTENCY_MISMATCH"
    body = tenant.reserve_body(metadata={"x": {"a": 1, "b": [2]}})
    first = raw(tenant.http.post("/v1/reservations", json=body))
    turned = body | {"metadata": {"x": {"b": [2], "a": 1}}}
    assert (
        raw(tenant.http.post("/v1/reservations", json=turned))["reservation_id"]
        == (first["reservation_id"])
    )


CAPS = (
    {},
    {"tool_allowlist": []},
    {"tool_allowlist": [], "tool_denylist": ["Shell", ""], "max_tokens": 0},
    {"max_tokens": 2**53 + 1, "max_steps_remaining": 3, "cooldown_ms": 0},
)


@pytest.mark.parametrize("caps", CAPS)
def test_caps_are_passed_on(tenant: Tenant, caps: dict[str, Any]) -> None:
    tenant.budget(caps_json=json.dumps(caps))
    for send in (tenant.decide, tenant.reserve):
        key = new_key()
        first, again = raw(send(idempotency_key=key)), raw(send(idempotency_key=key))
        assert first["decision"] == again["decision"] == "ALLOW_WITH_CAPS"
        assert json.dumps(first["caps"]) == json.dumps(again["caps"]) == json.dumps(caps)
    key = new_key()
    dry = tenant.reserve(dry_run=True, idempotency_key=key)
    assert raw(dry)["caps"] == caps
    assert tenant.reserve(dry_run=True, idempotency_key=key).text == dry.text


@pytest.mark.parametrize("number", ["5e-324", "-0", "1" + "0" * 40, "0.1000", "1E+2"])
@pytest.mark.parametrize(
    ("members", "where"),
    [
        ('"extend_by_ms": 1000', "idempotency_key"),
        ('"idempotency_key": "k"', "extend_by_ms"),
        ('"idempotency_key": "k", "extend_by_ms": 1000, "unknown": {}', "unknown"),
        ('"idempotency_key": "k", "extend_by_ms": 0', "extend_by_ms"),
    ],
)
def test_a_number_kept_as_written_beside_a_violation(
    tenant: Tenant, members: str, where: str, number: str
) -> None:
    body = f'{{"metadata": {{"n": [{number}]}}, {members}}}'.encode()
    path = f"/v1/reservations/{tenant.reserved()}/extend"
    answer = post_bytes(tenant, body, path=path)
    check_error(answer, 400, "INVALID_REQUEST")
    assert where in answer.json()["message"]


@pytest.mark.parametrize("number", ["4.260025182060489e+16", "1e300", "123456789012345678901"])
@pytest.mark.parametrize("shape", ["%s", "[%s]", '[{"a":%s}]'])
def test_a_number_in_the_place_of_one(tenant: Tenant, number: str, shape: str) -> None:
    body = tenant.reserve_body(metadata="@")
    answer = posted(tenant, "/v1/reservations", body, shape % number)
    assert "metadata" in check_error(answer, 400, "INVALID_REQUEST")["message"]
