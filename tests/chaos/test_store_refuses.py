"""A store that is there and refuses the work: full, a replica, without replicas, forbidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.agents import check_books
from support.redis import RedisServer
from support.running import Running, StartServer
from support.server import free_port
from support.tenants import Tenant, new_key
from support.wire import eventually

Refusal = Callable[[RedisServer], Iterator[None]]


def full(store: RedisServer) -> Iterator[None]:
    store.client.config_set("maxmemory", 1)
    yield
    store.client.config_set("maxmemory", 0)


def replica(store: RedisServer) -> Iterator[None]:
    store.client.replicaof("127.0.0.1", free_port())  # a master that never comes: data stays
    yield
    store.client.replicaof("NO", "ONE")


def too_few_replicas(store: RedisServer) -> Iterator[None]:
    store.client.config_set("min-replicas-to-write", 1)
    yield
    store.client.config_set("min-replicas-to-write", 0)


def failed_snapshot(store: RedisServer) -> Iterator[None]:
    """What a full disk does: the background save fails, and Redis takes no more writes."""
    target = store.folder / "dump.rdb"
    target.mkdir()
    store.client.config_set("save", "3600 1")

    def saved(status: str) -> bool:
        facts = store.client.info("persistence")
        return not facts["rdb_bgsave_in_progress"] and facts["rdb_last_bgsave_status"] == status

    store.client.bgsave()
    eventually(lambda: saved("err"))
    yield
    target.rmdir()
    store.client.bgsave()
    eventually(lambda: saved("ok"))
    store.client.config_set("save", "")


def no_scripts(store: RedisServer) -> Iterator[None]:
    store.client.acl_setuser("default", enabled=True, commands=["-evalsha", "-eval"])
    yield
    store.client.acl_setuser("default", enabled=True, commands=["+evalsha", "+eval"])


@pytest.fixture(scope="module")
def refusing(start_once: StartServer) -> Running:
    """One server for all refusals: after each of them it goes on."""
    return start_once()


@pytest.mark.parametrize("refusal", [full, replica, too_few_replicas, failed_snapshot, no_scripts])
def test_a_store_that_refuses(refusing: Running, refusal: Refusal) -> None:
    tenant = refusing.tenant()
    tenant.budget()
    held = [tenant.reserved(100) for _ in range(3)]
    lapsing = tenant.reserved(50, ttl_ms=1000, grace_period_ms=0)
    sent = mutations(tenant, held)
    eventually(lambda: readiness(refusing) == 200)
    with contextmanager(refusal)(refusing.store):
        before = tenant.amounts()
        for path, body in sent:
            answer = tenant.http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]) == (500, "INTERNAL_ERROR")
            assert "retry-after" in answer.headers, (path, answer.text)
        assert tenant.amounts() == before
        eventually(lambda: readiness(refusing) == 503)
        assert httpx.get(f"{refusing.url}/actuator/health/liveness").status_code == 200
        assert [answer.status_code for answer in reads(tenant, held[0])] == [200] * 4
        unknown = {"X-Cycles-API-Key": "cyc_live_" + "0" * 32}
        assert tenant.http.get("/v1/balances", headers=unknown).status_code == 401
    for path, body in sent * 2:
        assert tenant.http.post(path, json=body).status_code in (200, 201), path
    eventually(lambda: readiness(refusing) == 200)
    eventually(lambda: tenant.get(lapsing).status_code == 410)
    amounts = tenant.amounts()
    assert (amounts["reserved"], amounts["spent"]) == (100 + 20, 10 + 7)
    check_books(tenant)


def mutations(tenant: Tenant, held: list[str]) -> list[tuple[str, dict[str, Any]]]:
    path = "/v1/reservations"
    actual = {"unit": "TOKENS", "amount": 10}
    event = tenant.reserve_body()
    del event["estimate"]
    return [
        (path, tenant.reserve_body(20)),
        (f"{path}/{held[0]}/commit", {"idempotency_key": new_key(), "actual": actual}),
        (f"{path}/{held[1]}/release", {"idempotency_key": new_key()}),
        (f"{path}/{held[2]}/extend", {"idempotency_key": new_key(), "extend_by_ms": 10_000}),
        ("/v1/events", {**event, "actual": {"unit": "TOKENS", "amount": 7}}),
        ("/v1/decide", tenant.reserve_body(1)),
        (path, tenant.reserve_body(1, dry_run=True)),
    ]


def reads(tenant: Tenant, reservation: str) -> list[httpx.Response]:
    return [
        tenant.list(),
        tenant.list(sort_by="created_at_ms"),
        tenant.get(reservation),
        tenant.balances(),
    ]


def readiness(running: Running) -> int:
    return httpx.get(f"{running.url}/actuator/health/readiness", timeout=10).status_code
