"""A store that takes connections and says nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from support.agents import Crew, check_books
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import Tenant, new_key
from support.wire import Answer, Wire, call_once, eventually

WAIT_MS = 600
SLACK_S = 5.0
"""What two busy processors may add to a bound."""

Mutation = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def hanging(start_once: StartServer) -> Running:
    return start_once(REDIS_POOL_MAX_WAIT_MS=str(WAIT_MS))


def mutations(tenant: Tenant) -> list[Mutation]:
    """One of each kind, each with its own key, that changes the budget by a different amount."""
    paths = [f"/v1/reservations/{tenant.reserved(1000)}" for _ in range(3)]
    actual = {"unit": "TOKENS", "amount": 10}
    event = tenant.reserve_body()
    del event["estimate"]
    return [
        ("/v1/reservations", tenant.reserve_body(100)),
        (f"{paths[0]}/commit", {"idempotency_key": new_key(), "actual": actual}),
        (f"{paths[1]}/release", {"idempotency_key": new_key()}),
        (f"{paths[2]}/extend", {"idempotency_key": new_key(), "extend_by_ms": 10_000}),
        ("/v1/events", {**event, "actual": {"unit": "TOKENS", "amount": 7}}),
        ("/v1/decide", tenant.reserve_body(1)),
        ("/v1/reservations", tenant.reserve_body(1, dry_run=True)),
    ]


def reads(tenant: Tenant, reservation: str) -> list[str]:
    return [
        f"/v1/reservations?tenant={tenant.name}",
        f"/v1/reservations?tenant={tenant.name}&sort_by=created_at_ms",
        f"/v1/reservations/{reservation}",
        f"/v1/balances?tenant={tenant.name}",
    ]


def test_every_call_gives_up_in_time_and_nothing_happens_twice(hanging: Running) -> None:
    tenant, stranger = hanging.tenant(), hanging.tenant()
    tenant.budget()
    kept = tenant.reserved(5)
    sent = mutations(tenant)
    before = tenant.get(sent[3][0].split("/")[3]).json()["expires_at_ms"]

    async def calls() -> list[Answer]:
        port, key = hanging.server.port, tenant.secret
        together = [call_once(port, "POST", path, body, key=key) for path, body in sent]
        together += [call_once(port, "GET", path, key=key) for path in reads(tenant, kept)]
        together += [
            # Not verified before: nothing of this key is remembered.
            call_once(port, "GET", f"/v1/balances?tenant={stranger.name}", key=stranger.secret),
            call_once(port, "POST", "/v1/reservations", {"no": "body"}, key=tenant.secret),
            call_once(port, "GET", f"/v1/reservations/{kept}", admin=ADMIN_KEY),
        ]
        return await asyncio.gather(*together)

    hanging.store.pause()
    answers = asyncio.run(calls())
    for answer in answers:
        assert answer.store_away, answer
        assert answer.seconds < WAIT_MS / 1000 + SLACK_S
    hanging.store.resume()

    assert tenant.reserve(1).status_code == 200
    for path, body in sent * 2:
        assert tenant.http.post(path, json=body).status_code in (200, 201)
    amounts = tenant.amounts()
    # Held: what was kept, the new one, the extended one and the repeated one.
    assert (amounts["reserved"], amounts["spent"]) == (5 + 1 + 1000 + 100, 10 + 7)
    assert tenant.get(sent[3][0].split("/")[3]).json()["expires_at_ms"] == before + 10_000
    check_books(tenant)


def test_calls_one_after_the_other_while_it_hangs(hanging: Running) -> None:
    tenant = hanging.tenant()
    tenant.budget()
    tenant.reserved(1)

    async def calls() -> list[Answer]:
        async def in_turn(pause: float) -> list[Answer]:
            await asyncio.sleep(pause)
            wire = await Wire.open(hanging.server.port)
            body = tenant.reserve_body(1)
            key = tenant.secret
            found = [await wire.call("POST", "/v1/reservations", body, key=key) for _ in range(4)]
            wire.close()
            return found

        # They start at different moments of the server's attempts to connect anew.
        rows = await asyncio.gather(*(in_turn(part * WAIT_MS / 5000) for part in range(5)))
        return [answer for row in rows for answer in row]

    hanging.store.pause()
    answers = asyncio.run(calls())
    hanging.store.resume()
    for answer in answers:
        assert answer.store_away, answer
        assert answer.seconds < WAIT_MS / 1000 + SLACK_S
    assert tenant.reserve(1).status_code == 200


def test_a_crowd_does_not_pile_up(hanging: Running) -> None:
    tenant = hanging.tenant()
    tenant.budget()
    tenant.reserved(1)
    # More than the sockets between server and store take in while nobody reads.
    bodies = [tenant.reserve_body(1, metadata={"text": "x" * 4000}) for _ in range(200)]

    async def crowd() -> list[Answer]:
        port, key = hanging.server.port, tenant.secret
        return await asyncio.gather(
            *(call_once(port, "POST", "/v1/reservations", body, key=key) for body in bodies)
        )

    hanging.store.pause()
    for answer in asyncio.run(crowd()) + asyncio.run(crowd()):
        assert answer.store_away, answer
        assert answer.seconds < WAIT_MS / 1000 + 2 * SLACK_S
    hanging.store.resume()
    assert tenant.reserve(1).status_code == 200
    assert all(answer.status == 200 for answer in asyncio.run(crowd()))
    assert tenant.amounts()["reserved"] == 1 + 1 + len(bodies)
    check_books(tenant)


def test_health_while_it_hangs(hanging: Running) -> None:
    def status(probe: str) -> tuple[int, float]:
        began = time.monotonic()
        answer = httpx.get(f"{hanging.url}/actuator/health/{probe}", timeout=10)
        return answer.status_code, time.monotonic() - began

    eventually(lambda: status("readiness")[0] == 200)
    hanging.store.pause()
    eventually(lambda: status("readiness")[0] == 503)
    for _ in range(10):
        code, seconds = status("readiness")
        assert (code, seconds < SLACK_S) == (503, True)
        code, seconds = status("liveness")
        assert (code, seconds < SLACK_S) == (200, True)
    hanging.store.resume()
    eventually(lambda: status("readiness")[0] == 200)


def test_agents_work_through_hangs(hanging: Running) -> None:
    crew = Crew(hanging.server.port, hanging.tenant())

    async def faults() -> None:
        for _ in range(3):
            hanging.store.pause()
            await asyncio.sleep(1.5 * WAIT_MS / 1000)  # the fault itself
            hanging.store.resume()
            await crew.progress(3)

    crew.run_through(faults)
    assert crew.failures
    assert not crew.lost
    crew.check()


def test_another_store_takes_over_while_the_old_one_hangs_for_ever(hanging: Running) -> None:
    tenant = hanging.tenant()
    tenant.budget()
    tenant.reserved(1)
    bodies = [tenant.reserve_body(1, metadata={"text": "x" * 4000}) for _ in range(200)]

    async def crowd() -> list[Answer]:
        port, key = hanging.server.port, tenant.secret
        return await asyncio.gather(
            *(call_once(port, "POST", "/v1/reservations", body, key=key) for body in bodies)
        )

    hanging.store.pause()
    gone = hanging.store.process
    # The server's writes to the old one are stuck half-way, and stay so.
    assert all(answer.store_away for answer in asyncio.run(crowd()))
    hanging.redis.close()
    (hanging.store.folder / "s").unlink()
    hanging.store.start()
    try:
        assert tenant.reserve(1).status_code == 200
        assert all(answer.status == 200 for answer in asyncio.run(crowd()))
        assert tenant.amounts()["reserved"] == 1 + 1 + len(bodies)
    finally:
        gone.kill()
        gone.wait()
