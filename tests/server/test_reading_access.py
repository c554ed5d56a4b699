"""Who may read which reservation, and getReservation by state."""

from __future__ import annotations

from typing import Any

import pytest
from support.reading import DAY_MS, T0, Lists


@pytest.fixture
def lists(running: Any) -> Lists:
    return Lists(running)


def test_each_tenant_sees_its_own(lists: Lists, running: Any) -> None:
    other = Lists(running)
    mine, theirs = lists.put(), other.put()
    lists.redis.set(other.names.idempotency("reserve", "k"), theirs, px=DAY_MS)
    lists.redis.zadd(lists.names.index, {theirs: T0})
    assert lists.ids() == [mine]
    assert lists.ids(tenant=lists.name) == [mine]
    assert lists.ids(tenant="") == [mine]
    assert lists.ids(idempotency_key="k") == []
    assert lists.refused(403, tenant=other.name) == "FORBIDDEN"
    assert lists.refused(403, tenant=lists.name.upper()) == "FORBIDDEN"
    assert lists.refused(400, tenant=other.name, **{"from": "soon"}) == "INVALID_REQUEST"
    assert lists.one(theirs).status_code == 403


def test_a_scope_filter_limits_what_is_seen(running: Any) -> None:
    lists = Lists(running, scope_filter=["agent:bot-1", "agent:bot-2"])
    inside = lists.put(T0, scope="agent:bot-1")
    outside = lists.put(T0 + 1, scope="agent:bot-10")
    lists.redis.set(lists.names.idempotency("reserve", "k"), outside, px=DAY_MS)
    assert lists.ids() == [inside]
    assert lists.ids(sort_by="reserved") == [inside]
    lists.redis.hset(lists.names.reservation(outside), "idempotency_key", "k")
    assert lists.ids(idempotency_key="k") == []
    assert lists.one(inside).status_code == 200
    assert lists.one(outside).status_code == 403


def test_one_reservation_by_its_state(lists: Lists) -> None:
    lapsed = lists.put(T0)
    assert lists.one(lapsed).json()["status"] == "ACTIVE"
    damaged = lists.put(T0, action_json="[]")
    assert lists.one(damaged).status_code == 500
