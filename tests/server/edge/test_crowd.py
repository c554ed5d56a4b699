"""More connections than there may be: nobody is shut out by those who say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis import RedisServer
from support.running import Running, StartServer
from support.server import CyclesServer
from support.stream import talk
from support.tenants import Tenant
from support.wire import Answer, Wire, call_once, request_bytes

MOST = 20
LIVENESS = "/actuator/health/liveness"


@pytest.fixture(scope="module")
def small(start_once: StartServer) -> Iterator[Running]:
    yield start_once(CYCLES_MAX_CONNECTIONS=str(MOST), REDIS_POOL_MAX_WAIT_MS="20000")


@pytest.fixture
def tenant(small: Running) -> Tenant:
    tenant = small.tenant()
    tenant.budget()
    tenant.reserved(0)  # the key is known
    return tenant


def reserve(tenant: Tenant) -> bytes:
    body = tenant.reserve_body(1)
    return request_bytes("POST", "/v1/reservations", body, key=tenant.secret)


async def is_served(port: int, tenant: Tenant) -> None:
    wire = await Wire.open(port)
    wire.send(reserve(tenant))
    assert (await wire.answer()).status == 200
    wire.close()
    assert (await call_once(port, "GET", LIVENESS)).status == 200


# What a client sends that then says no more.
HALVES = [b"", b"\r\n", b"GET /v1/bal", b"POST /v1/reservations HTTP/1.1\r\nHost: a\r\nContent-"]


@pytest.mark.parametrize("half", HALVES)
def test_the_silent_make_room(small: Running, tenant: Tenant, half: bytes) -> None:
    port = small.server.port

    async def trial() -> None:
        silent = []
        for _ in range(3 * MOST):
            silent.append(await Wire.open(port))
            silent[-1].send(half)
        await is_served(port, tenant)
        await asyncio.sleep(1.2)  # they have had their moment
        for _ in range(MOST + 5):
            await is_served(port, tenant)
        for wire in silent[: 2 * MOST]:  # the oldest go first
            assert await wire.closed()
        for wire in silent:
            wire.close()

    asyncio.run(trial())


@pytest.mark.usefixtures("many_files")
def test_of_very_many_the_oldest_go_at_once(small: Running, tenant: Tenant) -> None:
    port = small.server.port

    async def trial() -> None:
        silent = [await Wire.open(port) for _ in range(MOST + 1024 + 50)]
        for wire in silent[:50]:
            assert await wire.closed()
        await is_served(port, tenant)
        for wire in silent:
            wire.close()

    asyncio.run(trial())


def test_those_that_send_bodies_slowly_make_room(small: Running, tenant: Tenant) -> None:
    port, request = small.server.port, reserve(tenant)

    async def trial() -> None:
        slow = []
        for _ in range(3 * MOST):
            slow.append(await Wire.open(port))
            slow[-1].send(request[:-10])
        await is_served(port, tenant)
        for wire in slow:
            wire.close()

    asyncio.run(trial())
    assert tenant.amounts()["reserved"] == 1


def test_those_that_do_not_read_make_room(small: Running, tenant: Tenant) -> None:
    port = small.server.port
    many = request_bytes("GET", "/api-docs", admin="operator-secret") * 30

    async def trial() -> None:
        slow = []
        for _ in range(3 * MOST):
            slow.append(await Wire.open(port, read_ahead=1024))
            slow[-1].send(many)
        await asyncio.sleep(0.5)
        await is_served(port, tenant)
        for wire in slow:
            wire.close()

    asyncio.run(trial())


def test_the_idle_make_room_and_the_busy_do_not(small: Running, tenant: Tenant) -> None:
    port = small.server.port

    async def trial() -> None:
        idle = [await Wire.open(port) for _ in range(MOST - 1)]
        for wire in idle:
            assert (await wire.call("GET", LIVENESS)).status == 200
        busy = await Wire.open(port)
        small.store.pause()
        busy.send(reserve(tenant))
        await asyncio.sleep(1.5)  # they have had their moment
        newcomers = [await Wire.open(port) for _ in range(MOST - 1)]
        for wire in idle:
            assert await wire.closed()
        small.store.resume()
        assert (await busy.answer()).status == 200
        for wire in (busy, *newcomers):
            wire.close()

    asyncio.run(trial())


def test_while_all_are_served_others_wait_and_liveness_does_not(
    small: Running, tenant: Tenant
) -> None:
    port = small.server.port

    async def send_and_wait() -> Answer:
        wire = await Wire.open(port)
        wire.send(reserve(tenant))
        answer = await wire.answer()
        wire.close()
        return answer

    async def trial() -> None:
        small.store.pause()
        served = [asyncio.create_task(send_and_wait()) for _ in range(3 * MOST)]
        await asyncio.sleep(0.3)
        for _ in range(5):
            assert (await call_once(port, "GET", LIVENESS)).status == 200
        leaving = await Wire.open(port)
        leaving.send(reserve(tenant))
        await asyncio.sleep(0.1)
        leaving.reset()  # while it waits for room
        small.store.resume()
        assert {answer.status for answer in await asyncio.gather(*served)} == {200}

    asyncio.run(trial())
    assert tenant.amounts()["reserved"] >= 3 * MOST
    (answer,) = asyncio.run(talk(port, reserve(tenant), half_close=True))
    assert answer.status == 200


def test_no_more_are_taken_than_files_may_be_open(store: RedisServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = CyclesServer(store.url, log, open_files=300)

    async def trial() -> None:
        silent = [await Wire.open(server.port) for _ in range(400)]
        answer = await asyncio.wait_for(call_once(server.port, "GET", LIVENESS), 30)
        assert answer.status == 200
        for wire in silent:
            wire.close()

    try:
        asyncio.run(trial())
    finally:
        server.stop()
    lines = log.read_text()
    assert "allows a process 300 open files: 86 connections" in lines
    assert "Too many open files" not in lines
