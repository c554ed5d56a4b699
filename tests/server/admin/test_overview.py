"""The overview: exact counts of all there is, and the worst of each kind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT

PATH = "/v1/admin/overview"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Operator]:
    """An admin plane that has nothing but what the test makes."""
    store = RedisServer(tmp_path / "redis")
    server = CyclesServer(store.url, tmp_path / "log", arguments=("admin",))
    operator = Operator(store.client, server.url)
    yield operator
    operator.http.close()
    server.stop()
    store.stop()


def test_of_nothing(alone: Operator) -> None:
    body = alone.http.get(PATH).json()
    assert body.pop("as_of")
    assert body == {
        "event_window_seconds": 3600,
        "tenant_counts": {"total": 0, "active": 0, "suspended": 0, "closed": 0},
        "budget_counts": {
            "total": 0,
            "active": 0,
            "frozen": 0,
            "closed": 0,
            "over_limit": 0,
            "with_debt": 0,
            "by_unit": {},
        },
        "over_limit_scopes": [],
        "debt_scopes": [],
        "webhook_counts": {"total": 0, "active": 0, "disabled": 0, "with_failures": 0},
        "failing_webhooks": [],
        "event_counts": {"total_recent": 0, "by_category": {}},
        "recent_denials": [],
        "recent_expiries": [],
    }


def event(number: int, kind: str, at: int, **data: Any) -> dict[str, Any]:
    return {
        "event_id": f"evt_{number:016x}",
        "event_type": kind,
        "category": kind.partition(".")[0],
        "timestamp": "2026-01-01T00:00:00.123456789Z",
        "tenant_id": "acme",
        "scope": None,
        "actor": {"type": "api_key", "key_id": None},
        "source": "cycles-server",
        "data": data,
    }


def test_of_a_whole_deployment(alone: Operator) -> None:
    redis = alone.redis
    one, suspended, closed = (alone.tenant() for _ in range(3))
    for tenant, status in ((suspended, "SUSPENDED"), (closed, "CLOSED")):
        alone.budget(tenant)
        alone.http.patch(f"/v1/admin/tenants/{tenant.name}", json={"status": status})
    for number in range(12):
        below = f"/agent:a{number:02}"
        alone.budget(one, 100, below)
        key = one.names.budget(f"tenant:{one.name}{below}", UNIT)
        redis.hset(key, mapping={"debt": number, "is_over_limit": "true" if number else "false"})
    alone.budget(one, 5, unit="CREDITS")
    alone.of_budget("POST", "/freeze", one, "/agent:a00")
    # The set may lead to what is gone, or to another tenant's.
    redis.sadd(one.names.budgets, "budget:tenant:gone:TOKENS")
    redis.sadd(one.names.budgets, suspended.names.budget(f"tenant:{suspended.name}", UNIT))
    for number, status in enumerate(("ACTIVE", "PAUSED", "DISABLED")):
        name = f"whsub_{number}"
        record = {"subscription_id": name, "url": "https://x", "status": status}
        record["consecutive_failures"] = number
        redis.set(one.names.webhook(name), json.dumps(record))
        redis.sadd(alone.keys.all_webhooks, name)
    now = int(time.time() * 1000)
    old = now - 3_700_000
    for number in range(14):
        kind = "reservation.denied" if number < 12 else "budget.funded"
        reason = "BUDGET_EXCEEDED" if number % 2 else "BUDGET_FROZEN"
        stored = event(number, kind, now, reason_code=reason)
        at = old if number == 11 else now - number * 1000
        redis.set(f"event:{stored['event_id']}", json.dumps(stored), px=60_000)
        redis.zadd("events:_all", {stored["event_id"]: at})
    redis.expire("events:_all", 60)

    answer = alone.http.get(PATH)
    body = answer.json()
    assert answer.headers["server-timing"].startswith("overview;dur=")
    assert body["tenant_counts"] == {"total": 3, "active": 1, "suspended": 1, "closed": 1}
    assert body["budget_counts"] == {
        "total": 15,
        "active": 13,
        "frozen": 1,
        "closed": 1,
        "over_limit": 11,
        "with_debt": 11,
        "by_unit": {UNIT: 14, "CREDITS": 1},
    }
    assert [row["debt"] for row in body["debt_scopes"]] == list(range(11, 1, -1))
    assert body["over_limit_scopes"][0] == {
        "scope": f"tenant:{one.name}/agent:a11",
        "unit": UNIT,
        "allocated": 100,
        "remaining": 100,
        "debt": 11,
    }
    assert body["webhook_counts"] == {
        "total": 3,
        "active": 1,
        "disabled": 1,
        "with_failures": 2,
    }
    assert [row["consecutive_failures"] for row in body["failing_webhooks"]] == [2, 1]
    assert body["event_counts"] == {
        "total_recent": 13,
        "by_category": {"reservation": 11, "budget": 2},
    }
    shown = [row["event_id"] for row in body["recent_denials"]]
    assert shown == [f"evt_{number:016x}" for number in range(10)]
    assert "scope" not in body["recent_denials"][0]
    assert body["recent_denials_by_reason"] == {"BUDGET_EXCEEDED": 5, "BUDGET_FROZEN": 6}

    # It is kept for some seconds, so that many dashboards cost no more than one.
    assert alone.http.get(PATH).json()["as_of"] == body["as_of"]


def test_what_cannot_be_read_takes_nothing_else_along(alone: Operator) -> None:
    good, bad = alone.tenant(), alone.tenant()
    alone.budget(good)
    alone.budget(bad)
    overflowed = (
        {"is_over_limit": "true", "remaining": -(2**64)},
        {"is_over_limit": "true", "remaining": -(2**63) - 1},
        {"debt": 1, "overdraft_limit": 2**64},
        {"debt": 2**63},
    )
    for number, fields in enumerate(overflowed):
        below = f"/agent:a{number}"
        alone.budget(good, 1, below)
        key = good.names.budget(f"tenant:{good.name}{below}", UNIT)
        alone.redis.hset(key, mapping=dict(fields))
    alone.redis.set(bad.names.record, "{")
    alone.redis.hset(bad.names.budget(f"tenant:{bad.name}", UNIT), "debt", "9" * 20 + "x")
    answer = alone.http.get(PATH)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["tenant_counts"]["total"] == 1
    assert body["budget_counts"]["total"] == 6
    assert body["budget_counts"]["over_limit"] == 2
    assert body["debt_scopes"] == body["over_limit_scopes"] == []
    bad.record()
