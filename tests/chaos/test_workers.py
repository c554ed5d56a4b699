"""Several workers: each can die, together they count as one, and none outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from support.agents import Crew
from support.metrics import metric
from support.running import Running, StartServer
from support.tenants import Tenant
from support.wire import eventually

WORKERS = 2


@pytest.fixture(scope="module")
def running(start_once: StartServer) -> Running:
    running = start_once(
        arguments=("--workers", str(WORKERS)),
        CYCLES_MAINTENANCE_LEASE_TTL_MS="2000",
        CYCLES_MAINTENANCE_RENEW_INTERVAL_MS="500",
    )
    log = running.server.log
    eventually(lambda: log.read_text().count("Application startup complete") == WORKERS)
    return running


def workers(running: Running) -> list[int]:
    """The processes that serve: children of the parent, but for the resource tracker."""
    parent = running.server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in command_line(pid)]


def command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def reserved(running: Running) -> float:
    return metric(running.url, "cycles_reservations_reserve_total")


def test_dead_workers_are_replaced_and_their_counts_stay(running: Running) -> None:
    tenant = running.tenant()
    crew = Crew(running.server.port, tenant)
    seen: list[float] = []

    async def faults() -> None:
        for _ in range(2):
            victim = workers(running)[0]
            os.kill(victim, signal.SIGKILL)
            seen.append(await asyncio.to_thread(reserved, running))
            await asyncio.to_thread(
                eventually,
                lambda victim=victim: (
                    len(workers(running)) == WORKERS and victim not in workers(running)
                ),
            )
            await crew.progress(3)
            seen.append(await asyncio.to_thread(reserved, running))

    crew.run_through(faults)
    assert not crew.failures
    assert seen == sorted(seen)
    # Every scrape tells the same, whoever answers it.
    assert len({reserved(running) for _ in range(10)}) == 1
    answered = sum(
        request.path == "/v1/reservations" for agent in crew.agents for request in agent.answered
    )
    # A request whose answer was lost with its worker may have counted as well.
    assert answered <= reserved(running) <= answered + crew.lost
    crew.check()
    assert_expiry_goes_on(tenant)


def assert_expiry_goes_on(tenant: Tenant) -> None:
    before = tenant.amounts()["reserved"]
    tenant.reserved(100, ttl_ms=1000, grace_period_ms=0)
    eventually(lambda: tenant.amounts()["reserved"] == before)


def test_all_but_one_die_at_once(running: Running) -> None:
    tenant = running.tenant()
    tenant.budget()
    before = reserved(running)
    for victim in workers(running)[1:]:
        os.kill(victim, signal.SIGKILL)
    assert tenant.reserve(1).status_code == 200
    eventually(lambda: len(workers(running)) == WORKERS)
    assert_expiry_goes_on(tenant)
    assert reserved(running) == before + 2


def test_a_worker_may_be_slow_to_start(start: StartServer, tmp_path: Path) -> None:
    slow = "import sys, time\nif 'spawn_main' in str(sys.orig_argv): time.sleep(6)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    running = start(arguments=("--workers", "2"), PYTHONPATH=str(tmp_path))
    log = running.server.log
    eventually(lambda: log.read_text().count("Application startup complete") == 2)
    assert "died" not in log.read_text()


def test_no_worker_outlives_its_parent(running: Running) -> None:
    left = workers(running)
    running.server.kill()
    eventually(lambda: not any(map(alive, left)))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", running.server.port))
    running.server.start()
    # A new server counts from nothing.
    assert reserved(running) == 0


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
