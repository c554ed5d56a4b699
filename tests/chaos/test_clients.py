"""Clients that hang up, come all at once, or whose own records are damaged."""

from __future__ import annotations

import asyncio
import random
import resource
from typing import Any

import pytest
from support.agents import Crew, check_books
from support.running import Running, StartServer
from support.tenants import Tenant
from support.wire import ANSWER_SECONDS, Answer, Wire, call_once, request_bytes

CROWD = 1500


pytestmark = pytest.mark.usefixtures("many_files")


@pytest.fixture(scope="module")
def crowded(start_once: StartServer) -> Running:
    """A server with the usual limits of a shell, and a store that takes few connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        return start_once("--maxclients", "20")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def hang_up(port: int, tenant: Tenant, bodies: list[dict[str, Any]], seed: int) -> None:
    """Send each request over a connection that is reset within 5 ms."""
    chance = random.Random(seed)
    for body in bodies:
        wire = await Wire.open(port)
        wire.send(request_bytes("POST", "/v1/reservations", body, key=tenant.secret))
        await asyncio.sleep(chance.random() * 0.005)
        wire.reset()


def test_no_answer_reaches_anybody_else(crowded: Running) -> None:
    port = crowded.server.port
    rude, polite = crowded.tenant(), crowded.tenant()
    rude.budget()
    polite.budget()
    rude.reserved(0)  # its key is known from here on
    bodies = [rude.reserve_body(1, ttl_ms=600_000) for _ in range(2000)]
    shapes = {
        "reserve": {"decision", "reservation_id", "affected_scopes", "expires_at_ms",
                    "remaining_ttl_ms", "scope_path", "reserved", "balances"},
        "commit": {"status", "charged", "released", "balances"},
        "balances": {"balances", "has_more"},
    }  # fmt: skip

    async def watch(wire: Wire) -> None:
        async def call(shape: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
            answer = await wire.call(method, path, body, key=polite.secret)
            assert answer.status == 200, answer
            assert answer.headers["x-cycles-tenant"] == polite.name
            assert set(answer.body) == shapes[shape], answer
            for row in answer.body["balances"]:
                assert row["scope_path"] == f"tenant:{polite.name}"
            result: dict[str, Any] = answer.body
            return result

        body = polite.reserve_body(2, metadata={"whose": polite.name})
        held = await call("reserve", "POST", "/v1/reservations", body)
        await call("balances", "GET", f"/v1/balances?tenant={polite.name}")
        one = await wire.call(
            "GET", f"/v1/reservations/{held['reservation_id']}", key=polite.secret
        )
        assert one.body["metadata"] == {"whose": polite.name}
        actual = {"idempotency_key": "once", "actual": {"unit": "TOKENS", "amount": 1}}
        path = f"/v1/reservations/{held['reservation_id']}/commit"
        await call("commit", "POST", path, actual)

    async def trial() -> list[Answer]:
        hanging_up = asyncio.gather(
            *(hang_up(port, rude, bodies[part::20], part) for part in range(20))
        )
        wires = [await Wire.open(port) for _ in range(3)]
        while not hanging_up.done():
            await asyncio.gather(*map(watch, wires))
        await hanging_up
        for wire in wires:
            wire.close()
        return [
            await call_once(port, "POST", "/v1/reservations", body, key=rude.secret)
            for body in bodies
        ]

    answers = asyncio.run(trial())
    assert [answer.status for answer in answers] == [200] * len(bodies)
    assert len({answer.body["reservation_id"] for answer in answers}) == len(bodies)
    assert rude.amounts()["reserved"] == len(bodies)
    check_books(rude)


def test_a_crowd_that_comes_at_once(crowded: Running) -> None:
    tenant = crowded.tenant()
    tenant.budget()
    port, key = crowded.server.port, tenant.secret

    async def crowd(method: str, path: str, bodies: list[Any]) -> list[Answer]:
        wires = await asyncio.gather(*(Wire.open(port) for _ in bodies))
        answers = await asyncio.gather(
            *(
                wire.call(method, path, body, key=key)
                for wire, body in zip(wires, bodies, strict=True)
            )
        )
        for wire in wires:
            wire.close()
        return answers

    reserves = [tenant.reserve_body(1) for _ in range(CROWD)]
    for answer in asyncio.run(crowd("POST", "/v1/reservations", reserves)):
        # An error is right only for a request that waited as long as it may.
        assert answer.status == 200 or (answer.store_away and answer.seconds > 2), answer
    path = "/v1/reservations?sort_by=created_at_ms&limit=10"
    for answer in asyncio.run(crowd("GET", path, [None] * CROWD)):
        assert answer.status == 200 or (answer.store_away and answer.seconds > 2), answer
    assert tenant.reserve(1).elapsed.total_seconds() < 2
    assert tenant.amounts()["reserved"] == 1 + CROWD
    check_books(tenant)


def test_a_damaged_record_is_nobody_elses_trouble(crowded: Running) -> None:
    port = crowded.server.port
    crew = Crew(port, crowded.tenant())
    damaged, rude = crowded.tenant(), crowded.tenant()
    for tenant in (damaged, rude):
        tenant.budget()
        tenant.reserved(0)
    crowded.redis.delete(damaged.names.budget(f"tenant:{damaged.name}", "TOKENS"))
    crowded.redis.rpush(damaged.names.budget(f"tenant:{damaged.name}", "TOKENS"), "x")
    refused: list[Answer] = []

    async def faults() -> None:
        for turn in range(20):
            calls = [
                call_once(
                    port, "POST", "/v1/reservations", damaged.reserve_body(1), key=damaged.secret
                )
                for _ in range(20)
            ]
            if turn % 2:
                bodies = [rude.reserve_body(1) for _ in range(20)]
                await asyncio.gather(hang_up(port, rude, bodies, turn), _all(refused, calls))
            else:
                crowded.redis.script_flush()
                await _all(refused, calls)

    crew.run_through(faults)
    assert not crew.failures
    assert len({answer.headers["x-request-id"] for answer in refused}) == len(refused) == 400
    for answer in refused:
        assert (answer.status, answer.body["error"]) == (500, "INTERNAL_ERROR")
        assert answer.seconds < ANSWER_SECONDS
    crowded.redis.delete(damaged.names.budget(f"tenant:{damaged.name}", "TOKENS"))
    damaged.budget()
    crew.check()


async def _all(into: list[Answer], calls: list[Any]) -> None:
    into += await asyncio.gather(*calls)


@pytest.mark.parametrize("record", ["index", "idempotency", "ttl"])
def test_a_damaged_record_holds_nothing(running: Running, tenant: Tenant, record: str) -> None:
    """Whatever has the wrong type, a reserve that fails has changed no budget."""
    body = tenant.reserve_body(10)
    key = {
        "index": tenant.names.index,
        "idempotency": tenant.names.idempotency("reserve", body["idempotency_key"]),
        "ttl": tenant.names.ttl,
    }[record]
    before = tenant.amounts()
    kept = running.redis.dump(key)
    running.redis.delete(key)
    running.redis.hset(key, "a", "list it is not")
    try:
        answer = tenant.http.post("/v1/reservations", json=body)
        assert (answer.status_code, answer.json()["error"]) == (500, "INTERNAL_ERROR")
        assert tenant.amounts() == before
    finally:
        running.redis.delete(key)
        if kept:
            running.redis.restore(key, 0, kept)
    assert tenant.http.post("/v1/reservations", json=body).status_code == 200
    assert tenant.amounts()["reserved"] == 10
