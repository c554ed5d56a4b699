"""A close that is broken off after any of its steps, and then goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import TIMEOUT_MS

from cycles_server.cli.provision import provide_budget, provide_tenant
from cycles_server.governance.call import Call
from cycles_server.governance.closing.cascade import begin_close, converge
from cycles_server.governance.closing.closings import Closings
from cycles_server.store.errors import StoreUnavailable
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, Layout
from cycles_server.store.link import Argument, Reply
from cycles_server.store.store import Store

HOLDS = 5


class Dying(Store):
    """A store that is lost after a number of writes: the next one is not sent."""

    left = 10**9

    def _spend(self) -> None:
        if self.left == 0:
            raise StoreUnavailable("it has died")
        self.left -= 1

    def call(
        self,
        tenant: str,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        bulk: bool = False,
    ) -> asyncio.Future[Reply]:
        self._spend()
        return super().call(tenant, script, keys, arguments, bulk=bulk)

    def write(self, *command: Argument) -> asyncio.Future[Reply]:
        self._spend()
        return super().write(*command)


async def owned(store: Store, client: Redis) -> None:
    """A tenant with two budgets, holds, keys and a webhook subscription."""
    await provide_tenant(store, "acme")
    names = store.keys.tenant("acme")
    await provide_budget(store, "acme", "tenant:acme", "TOKENS", 1000)
    await provide_budget(store, "acme", "tenant:acme/agent:a", "TOKENS", 500)
    scopes = ["tenant:acme", "tenant:acme/agent:a"]
    for number in range(HOLDS):
        row = {"tenant": "acme", "state": "ACTIVE", "estimate_amount": "10"}
        row |= {"estimate_unit": "TOKENS", "affected_scopes": json.dumps(scopes)}
        row |= {"created_at": "9999999999999", "expires_at": "9999999999999", "grace_ms": "0"}
        client.hset(names.reservation(f"r{number}"), mapping=row)
        client.zadd(names.index, {f"r{number}": number})
        client.zadd(names.ttl, {f"r{number}": 9999999999999})
    for scope in scopes:
        client.hincrby(names.budget(scope, "TOKENS"), "reserved", 10 * HOLDS)
        client.hincrby(names.budget(scope, "TOKENS"), "remaining", -10 * HOLDS)
    for kind, add in (("key", names.api_keys()), ("hook", names.webhooks())):
        for number in range(3):
            one = f"{kind}_{number}"
            key = names.api_key(one) if kind == "key" else names.webhook(one)
            record = {"key_id": one, "subscription_id": one, "status": "ACTIVE"}
            client.set(key, json.dumps({**record, "tenant_id": "acme"}))
            client.sadd(add, one)


def ended(client: Redis, keys: Keys) -> dict[str, Any]:
    """What is told of a close that went through."""
    names = keys.tenant("acme")
    entries = [
        json.loads(client.get(names.audit_entry(log_id)))
        for log_id in client.zrange(names.audit_tenant_index, 0, -1)
    ]
    told = [(one["operation"], one["resource_id"]) for one in entries]
    cascade = sorted(one for one in told if one[0].endswith("_via_tenant_cascade"))
    assert len(set(cascade)) == len(cascade), "something is told of twice"
    assert {one.get("request_id") for one in entries if "via" in one["operation"]} == {"r-1"}
    return {
        "told": [kind for kind, _ in cascade],
        "budgets": [
            [client.hget(names.budget(scope, "TOKENS"), field) for field in FIELDS]
            for scope in ("tenant:acme", "tenant:acme/agent:a")
        ],
        "holds": {client.hget(names.reservation(f"r{n}"), "state") for n in range(HOLDS)},
        "keys": {json.loads(client.get(names.api_key(f"key_{n}")))["status"] for n in range(3)},
        "hooks": {json.loads(client.get(names.webhook(f"hook_{n}")))["status"] for n in range(3)},
        "pending": client.hexists(names.closings, "acme"),
    }


FIELDS = ("status", "allocated", "remaining", "reserved")
THROUGH = {
    "told": ["api_key.revoked_via_tenant_cascade"] * 3
    + ["budget.closed_via_tenant_cascade"] * 2
    + ["reservation.released_via_tenant_cascade"] * HOLDS
    + ["webhook.disabled_via_tenant_cascade"] * 3,
    "budgets": [["CLOSED", "1000", "1000", "0"], ["CLOSED", "500", "500", "0"]],
    "holds": {"RELEASED"},
    "keys": {"REVOKED"},
    "hooks": {"DISABLED"},
    "pending": False,
}


@pytest.fixture(params=["reference", "buckets"])
def keys(request: pytest.FixtureRequest) -> Keys:
    layout: Layout | None = BucketLayout() if request.param == "buckets" else None
    return Keys(layout)


def test_after_every_step(
    empty_store: RedisServer, client: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cycles_server.governance.closing.cascade._BATCH", 2)

    async def broken_off_after(steps: int) -> bool:
        """Whether the close went through in one go; else another server has finished it."""
        client.flushall()
        store = Dying(empty_store.url, keys=keys, timeout_ms=TIMEOUT_MS)
        other = Store(empty_store.url, keys=keys, timeout_ms=TIMEOUT_MS)
        try:
            await owned(store, client)
            await begin_close(store, Call(request_id="r-1"), "acme", {})
            store.left = steps
            try:
                await converge(store, "acme", audit_days=1)
            except StoreUnavailable:
                assert await Closings(other, audit_days=1).reconcile(10) == 1
                return False
            return True
        finally:
            await store.close()
            await other.close()

    steps = 0
    while not asyncio.run(broken_off_after(steps)):
        assert ended(client, keys) == THROUGH, f"after {steps} steps"
        steps += 1
    assert ended(client, keys) == THROUGH
    # Three batches of holds, one of budgets, three keys, three subscriptions, two notes.
    assert steps == 3 + 1 + 3 + 3 + 2


def test_one_that_another_server_closed_is_gone_through_once(
    empty_store: RedisServer, client: Redis, keys: Keys
) -> None:
    async def found() -> list[int]:
        store = Store(empty_store.url, keys=keys, timeout_ms=TIMEOUT_MS)
        try:
            await owned(store, client)
            record = store.keys.tenant("acme").record
            client.set(record, json.dumps({"tenant_id": "acme", "status": "CLOSED"}))
            closings = Closings(store, audit_days=1)
            return [await closings.reconcile(10), await closings.reconcile(10)]
        finally:
            await store.close()

    assert asyncio.run(found()) == [1, 0]
    names = keys.tenant("acme")
    assert client.hget(names.budget("tenant:acme", "TOKENS"), "status") == "CLOSED"


@pytest.mark.parametrize("status", ["ACTIVE", "SUSPENDED", None])
def test_a_close_that_is_noted_of_a_tenant_that_is_not_closed_is_dropped(
    empty_store: RedisServer, client: Redis, keys: Keys, status: str | None
) -> None:
    """A restored store can have one without the other."""
    client.flushall()
    names = keys.tenant("acme")

    async def reconciled() -> int:
        store = Store(empty_store.url, keys=keys, timeout_ms=TIMEOUT_MS)
        try:
            await owned(store, client)
            if status is None:
                client.delete(names.record)
            else:
                record = {"tenant_id": "acme", "name": "acme", "status": status}
                client.set(names.record, json.dumps(record))
            client.hset(names.closings, "acme", '{"request_id":"r-1"}')
            client.sadd(names.closed, "acme")
            return await Closings(store, audit_days=1).reconcile(10)
        finally:
            await store.close()

    asyncio.run(reconciled())
    assert not client.hexists(names.closings, "acme")
    assert not client.sismember(names.closed, "acme")
    assert {json.loads(client.get(names.api_key(f"key_{n}")))["status"] for n in range(3)} == {
        "ACTIVE"
    }
    assert {json.loads(client.get(names.webhook(f"hook_{n}")))["status"] for n in range(3)} == {
        "ACTIVE"
    }
    assert {client.hget(names.reservation(f"r{n}"), "state") for n in range(HOLDS)} == {"ACTIVE"}
    assert client.hget(names.budget("tenant:acme", "TOKENS"), "status") == "ACTIVE"
