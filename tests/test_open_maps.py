"""What clients put into open maps comes back as it was: JSON passes around the scripts."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
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


@pytest.mark.parametrize(
    ("stored", "sent"),
    [("1.0", 1.0), ("-0.0", -0.0), ("1e2", 100.0), ("123456789012345.5", 123456789012345.5)],
)
def test_floats_stay_floats(tenant: Tenant, stored: str, sent: float) -> None:
    body = json.dumps(tenant.reserve_body(metadata={"x": "@"})).replace('"@"', stored)
    headers = {"Content-Type": "application/json"}
    answer = raw(tenant.http.post("/v1/reservations", content=body, headers=headers))
    shown = raw(tenant.get(answer["reservation_id"]))["metadata"]["x"]
    assert isinstance(shown, float)
    assert str(shown) == str(sent)


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
