"""Reservations as they lie in the store, and a client that turns pages."""

from __future__ import annotations

import json
import uuid
import weakref
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import httpx

from cycles_server.store.keys import TenantKeys
from support.tenants import Tenant

DAY_MS = 86_400_000
PATH = "/v1/reservations"
T0 = 1_760_000_000_000
"""An epoch ms long ago: 2025-10-09T08:53:20Z."""
SORT_KEYS = (
    "reservation_id",
    "tenant",
    "scope_path",
    "status",
    "reserved",
    "created_at_ms",
    "expires_at_ms",
)


def instant(ms: int) -> str:
    """``2025-10-09T08:53:20.000Z``"""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def put_reservation(
    redis: Any,
    names: TenantKeys,
    created_at: int,
    *,
    scope: str = "",
    indexed: bool = True,
    **fields: str,
) -> str:
    """A reservation with no more fields than another server writes; returns its id.

    ``redis`` may be a pipeline. ``scope``: levels below the tenant, as
    ``workspace:dev/agent:bot``.
    """
    reservation_id = str(uuid.uuid4())
    levels = [f"tenant:{names.tenant}", *filter(None, scope.split("/"))]
    scopes = ["/".join(levels[: depth + 1]) for depth in range(len(levels))]
    record = {
        "reservation_id": reservation_id,
        "tenant": names.tenant,
        "state": "ACTIVE",
        "subject_json": json.dumps(dict(level.split(":") for level in levels)),
        "action_json": json.dumps({"kind": "llm.completion", "name": "probe"}),
        "estimate_amount": "10",
        "estimate_unit": "TOKENS",
        "scope_path": scopes[-1],
        "affected_scopes": json.dumps(scopes),
        "created_at": str(created_at),
        "expires_at": str(created_at + 60_000),
        "grace_ms": "5000",
        "idempotency_key": f"key-{reservation_id}",
        "overage_policy": "REJECT",
        **fields,
    }
    redis.hset(names.reservation(reservation_id), mapping=record)
    if record["state"] != "ACTIVE":
        redis.pexpire(names.reservation(reservation_id), 30 * DAY_MS)
    if indexed:
        redis.zadd(names.index, {reservation_id: created_at})
    return reservation_id


class Reader:
    """A client with one key."""

    def __init__(self, url: str, secret: str, *, header: str = "X-Cycles-API-Key") -> None:
        self._http = httpx.Client(base_url=url, headers={header: secret}, timeout=30)
        weakref.finalize(self, self._http.close)

    def get(self, path: str, /, **params: Any) -> httpx.Response:
        return self._http.get(path, params=params)

    def page(self, path: str, /, **params: Any) -> dict[str, Any]:
        """A page that must be given."""
        response = self.get(path, **params)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        assert body.get("has_more", False) == ("next_cursor" in body)
        return body

    def rows(self, path: str, member: str, /, **params: Any) -> list[dict[str, Any]]:
        """The rows of all pages."""
        rows: list[dict[str, Any]] = []
        body = self.page(path, **params)
        rows += body[member]
        while "next_cursor" in body:
            body = self.page(path, **{**params, "cursor": body["next_cursor"]})
            rows += body[member]
        return rows


_NOT_A_REQUESTS = ("info", "eval")
"""Our own look at the counters, and the server's question to a store that is slow to answer."""


class CommandCount:
    """How often each Redis command runs from here on."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._before = self._read()

    def spent(self) -> dict[str, int]:
        after = self._read()
        return {
            name: calls - self._before.get(name, 0)
            for name, calls in after.items()
            if calls != self._before.get(name, 0) and name not in _NOT_A_REQUESTS
        }

    def _read(self) -> dict[str, int]:
        stats = self._redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


class Lists:
    """A tenant's reservations in the store, and what its lists show of them."""

    def __init__(self, running: Any, **key: Any) -> None:
        self.tenant: Tenant = running.tenant()
        self.name = self.tenant.name
        self.names = self.tenant.names
        self.redis = running.redis
        secret = self.tenant.new_key(**key) if key else self.tenant.secret
        self.reader = Reader(running.url, secret)

    def put(self, created_at: int = T0, **fields: Any) -> str:
        return put_reservation(self.redis, self.names, created_at, **fields)

    def put_many(self, created: Iterable[int]) -> None:
        pipe = self.redis.pipeline(transaction=False)
        for created_at in created:
            put_reservation(pipe, self.names, created_at)
        pipe.execute()

    def remove(self, reservation_id: str) -> None:
        self.redis.delete(self.names.reservation(reservation_id))
        self.redis.zrem(self.names.index, reservation_id)

    def page(self, **params: Any) -> dict[str, Any]:
        return self.reader.page(PATH, **params)

    def ids(self, **params: Any) -> list[str]:
        return [row["reservation_id"] for row in self.reader.rows(PATH, "reservations", **params)]

    def one(self, reservation_id: str) -> httpx.Response:
        return self.reader.get(f"{PATH}/{reservation_id}")

    def refused(self, expected: int, /, **params: Any) -> str:
        response = self.reader.get(PATH, **params)
        assert response.status_code == expected, response.text
        return str(response.json()["error"])
