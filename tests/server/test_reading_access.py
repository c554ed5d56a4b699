"""Who may read which reservation, and getReservation by state."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from support.reading import PATH, T0, Lists, Reader
from support.server import ADMIN_KEY
from support.tenants import Tenant


@pytest.fixture
def lists(running: Any) -> Lists:
    return Lists(running)


def test_each_tenant_sees_its_own(lists: Lists, running: Any) -> None:
    other = Lists(running)
    mine, theirs = lists.put(), other.put()
    lists.redis.set(other.names.idempotency("reserve", "k"), theirs)
    lists.redis.zadd(lists.names.index, {theirs: T0})
    assert lists.ids() == [mine]
    assert lists.ids(tenant=lists.name) == [mine]
    assert lists.ids(tenant="") == [mine]
    assert lists.ids(idempotency_key="k") == []
    assert lists.refused(403, tenant=other.name) == "FORBIDDEN"
    assert lists.refused(403, tenant=lists.name.upper()) == "FORBIDDEN"
    assert lists.refused(400, tenant=other.name, **{"from": "soon"}) == "INVALID_REQUEST"
    assert lists.one(theirs).status_code == 403


def test_the_operator_names_the_tenant(lists: Lists, running: Any) -> None:
    operator = Reader(running.url, ADMIN_KEY, header="X-Admin-API-Key")
    mine = lists.put()
    for params in ({}, {"tenant": ""}, {"tenant": " "}):
        response = operator.get(PATH, **params)
        assert response.status_code == 400
        assert response.json()["message"] == (
            "tenant query parameter is required when using admin key authentication"
        )
    rows = operator.page(PATH, tenant=lists.name)["reservations"]
    assert [row["reservation_id"] for row in rows] == [mine]
    assert operator.page(PATH, tenant="nobody")["reservations"] == []
    assert operator.get(f"{PATH}/{mine}").status_code == 200
    assert operator.get(f"{PATH}/{uuid.uuid4()}").status_code == 404
    assert "x-cycles-tenant" not in operator.get(f"{PATH}/{mine}").headers


def test_a_scope_filter_limits_what_is_seen(running: Any) -> None:
    lists = Lists(running, scope_filter=["agent:bot-1", "agent:bot-2"])
    inside = lists.put(T0, scope="agent:bot-1")
    outside = lists.put(T0 + 1, scope="agent:bot-10")
    lists.redis.set(lists.names.idempotency("reserve", "k"), outside)
    assert lists.ids() == [inside]
    assert lists.ids(sort_by="reserved") == [inside]
    lists.redis.hset(lists.names.reservation(outside), "idempotency_key", "k")
    assert lists.ids(idempotency_key="k") == []
    assert lists.one(inside).status_code == 200
    assert lists.one(outside).status_code == 403


def test_a_permission_is_needed(running: Any) -> None:
    lists = Lists(running, permissions=["balances:read"])
    assert lists.refused(403) == "FORBIDDEN"
    assert lists.one(lists.put()).status_code == 403


def test_one_reservation_by_its_state(lists: Lists) -> None:
    assert lists.one(str(uuid.uuid4())).status_code == 404
    assert lists.one("x" * 129).status_code == 400
    lapsed = lists.put(T0)
    assert lists.one(lapsed).json()["status"] == "ACTIVE"
    expired = lists.put(T0, state="EXPIRED")
    response = lists.one(expired)
    assert response.status_code == 410
    assert response.json()["error"] == "RESERVATION_EXPIRED"
    damaged = lists.put(T0, action_json="[]")
    assert lists.one(damaged).status_code == 500


def test_what_was_reserved_reads_back(tenant: Tenant) -> None:
    subject = tenant.subject(agent="Bot-1", dimensions={"cost_center": "7"})
    metadata: dict[str, Any] = {"a": [], "b": {}, "c": None, "n": 1.5}
    body = tenant.reserve_body(40, subject=subject, metadata=metadata)
    reserved = tenant.http.post(PATH, json=body).json()
    reservation_id = reserved["reservation_id"]
    detail = tenant.get(reservation_id).json()
    assert detail == {
        "reservation_id": reservation_id,
        "status": "ACTIVE",
        "idempotency_key": body["idempotency_key"],
        "subject": subject,
        "action": body["action"],
        "reserved": body["estimate"],
        "created_at_ms": detail["created_at_ms"],
        "expires_at_ms": reserved["expires_at_ms"],
        "scope_path": reserved["scope_path"],
        "affected_scopes": reserved["affected_scopes"],
        "metadata": metadata,
    }
    extended = tenant.extend(reservation_id, 5_000).json()
    assert extended["expires_at_ms"] == reserved["expires_at_ms"] + 5_000
    charged = tenant.commit(reservation_id, 30, metadata={"m": 1}).json()["charged"]
    detail = tenant.get(reservation_id).json()
    assert detail["expires_at_ms"] == extended["expires_at_ms"]
    assert detail["status"] == "COMMITTED"
    assert detail["committed"] == charged
    assert detail["committed_metadata"] == {"m": 1}
    assert detail["finalized_at_ms"] >= detail["created_at_ms"]
    everything = "metadata,committed_metadata,evidence"
    for filters in ({}, {"idempotency_key": body["idempotency_key"]}, {"agent": "bot-1"}):
        assert tenant.list(include=everything, **filters).json()["reservations"] == [detail]
    assert not tenant.release(tenant.reserved(5)).is_error
    row = tenant.list(status="RELEASED").json()["reservations"][0]
    assert "committed" not in row
    assert "finalized_at_ms" in row
