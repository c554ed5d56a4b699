"""The server is told to stop while it works."""

from __future__ import annotations

import asyncio
import signal

import pytest
from support.agents import Crew, check_books
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import Tenant
from support.wire import Answer, Wire, eventually, request_bytes

AT_ONCE_S = 30
GRACE_S = "120"
"""Far below the time that requests in flight get, and far above what a slow machine takes."""


def stop(running: Running) -> None:
    running.server.process.send_signal(signal.SIGTERM)


def gone(running: Running) -> bool:
    return running.server.process.poll() is not None


async def door_closed(port: int) -> None:
    """Wait until nobody takes connections any more: every worker has heard of the stop."""
    async with asyncio.timeout(AT_ONCE_S):
        while True:
            try:
                (await Wire.open(port)).close()
            except ConnectionRefusedError:
                return
            await asyncio.sleep(0.02)


async def connected(running: Running, tenant: Tenant, number: int) -> list[Wire]:
    """Connections that the server has taken: each has had an answer."""
    wires = [await Wire.open(running.server.port) for _ in range(number)]
    path = f"/v1/balances?tenant={tenant.name}"
    for wire in wires:
        assert (await wire.call("GET", path, key=tenant.secret)).status == 200
    return wires


def reserve(tenant: Tenant) -> bytes:
    body = tenant.reserve_body(1)
    return request_bytes("POST", "/v1/reservations", body, key=tenant.secret)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_under_load(start: StartServer, workers: int) -> None:
    running = start(
        arguments=("--workers", str(workers)),
        CYCLES_SHUTDOWN_GRACE_SECONDS=GRACE_S,
        REDIS_POOL_MAX_WAIT_MS="60000",
    )
    crew = Crew(running.server.port, running.tenant())

    async def stop_and_start() -> None:
        stop(running)
        await asyncio.to_thread(eventually, lambda: gone(running), AT_ONCE_S)
        await asyncio.to_thread(running.server.start)

    crew.run_through(stop_and_start)
    assert not crew.failures  # a reset at most, for what was not taken in
    crew.check()

    tenant = running.tenant()
    tenant.budget()

    async def stop_while_the_store_is_slow() -> list[Answer]:
        busy, idle, half = [await connected(running, tenant, n) for n in (50, 20, 2)]
        running.store.pause()
        for wire in busy:
            wire.send(reserve(tenant))
        request = reserve(tenant)
        half[0].send(request[:20])  # within the head
        half[1].send(request[:-10])  # within the body
        await asyncio.sleep(0.3)  # all this arrives
        stop(running)
        await door_closed(running.server.port)
        for wire in (*idle, *half):
            assert await wire.closed()  # without waiting for the busy ones
        running.store.resume()
        return await asyncio.gather(*(wire.answer() for wire in busy))

    answers = asyncio.run(stop_while_the_store_is_slow())
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert {answer.headers.get("connection") for answer in answers} == {"close"}
    eventually(lambda: gone(running), within=AT_ONCE_S)
    assert tenant.amounts()["reserved"] == len(answers)
    check_books(tenant)


def test_who_never_ends_is_cut_off_at_the_limit(start: StartServer) -> None:
    running = start(CYCLES_SHUTDOWN_GRACE_SECONDS="1", REDIS_POOL_MAX_WAIT_MS="60000")
    tenant = running.tenant()
    tenant.budget()
    tenant.reserved(0)

    async def trial() -> None:
        wire = await Wire.open(running.server.port)
        running.store.pause()
        wire.send(reserve(tenant))
        await asyncio.sleep(0.2)  # it arrives
        stop(running)
        await asyncio.to_thread(eventually, lambda: gone(running), AT_ONCE_S)
        wire.close()

    asyncio.run(trial())


def test_who_does_not_read_or_send_holds_up_no_stop(start: StartServer) -> None:
    running = start(CYCLES_SHUTDOWN_GRACE_SECONDS=GRACE_S)
    many = request_bytes("GET", "/api-docs", admin=ADMIN_KEY) * 30

    async def trial() -> None:
        deaf = [await Wire.open(running.server.port, read_ahead=1024) for _ in range(5)]
        for wire in deaf:
            wire.send(many)
        refused = await Wire.open(running.server.port)
        refused.send(b"garbage\r\n\r\n")  # and then it stays
        await asyncio.sleep(0.3)  # all this arrives
        stop(running)
        await asyncio.to_thread(eventually, lambda: gone(running), AT_ONCE_S)
        for wire in (*deaf, refused):
            wire.close()

    asyncio.run(trial())
