"""A store that dies, forgets its scripts, or drops its connections."""

from __future__ import annotations

import asyncio

import pytest
from support.agents import Crew, check_books
from support.metrics import metric
from support.running import Running, StartServer
from support.tenants import Tenant
from support.wire import eventually


@pytest.fixture(scope="module")
def running(start_once: StartServer) -> Running:
    return start_once(CYCLES_EXPIRY_INTERVAL_MS="1500")


MAINTENANCE = "cycles_maintenance_runs_total"


def one_of_each(tenant: Tenant) -> list[int]:
    """The status of one request for each operation."""
    held = [tenant.reserved(10) for _ in range(3)]
    answers = [
        tenant.commit(held[0], 10),
        tenant.release(held[1]),
        tenant.extend(held[2], 1000),
        tenant.event(1),
        tenant.decide(1),
        tenant.reserve(1, dry_run=True),
        tenant.get(held[2]),
        tenant.list(),
        tenant.list(sort_by="created_at_ms"),
        tenant.balances(),
    ]
    return [answer.status_code for answer in answers]


ALL_WELL = [200, 200, 200, 201, 200, 200, 200, 200, 200, 200]


def test_agents_work_through_deaths_of_the_store(running: Running) -> None:
    crew = Crew(running.server.port, running.tenant())

    async def faults() -> None:
        for _ in range(3):
            running.store.kill()
            await asyncio.sleep(0.2)  # requests are to meet the store's absence, too
            await asyncio.to_thread(running.store.start)
            await crew.progress(3)

    crew.run_through(faults)
    assert crew.failures
    assert not crew.lost  # the server itself stays
    crew.check()
    assert one_of_each(crew.tenant) == ALL_WELL


def test_the_first_request_after_the_store_is_back(running: Running) -> None:
    tenant = running.tenant()
    tenant.budget()
    reservation = tenant.reserved(10)
    running.store.kill()
    assert tenant.reserve(1).status_code == 500
    running.store.start()
    assert tenant.commit(reservation, 10).status_code == 200
    # Nobody asks while it is away, so only the request itself can find out.
    running.store.kill()
    running.store.start()
    assert one_of_each(tenant) == ALL_WELL
    check_books(tenant)


def test_a_server_that_starts_before_its_store(running: Running) -> None:
    tenant = running.tenant()
    tenant.budget()
    running.server.stop()
    running.store.kill()
    running.server.start()
    assert tenant.balances().status_code == 500
    running.store.start()
    assert one_of_each(tenant) == ALL_WELL


def test_lost_scripts_are_not_noticed(running: Running) -> None:
    crew = Crew(running.server.port, running.tenant())

    async def faults() -> None:
        for _ in range(10):
            running.redis.script_flush()
            await crew.progress(2)

    crew.run_through(faults)
    assert not crew.failures
    assert not crew.lost
    crew.check()


def test_killed_connections_cost_the_requests_in_flight_at_most(running: Running) -> None:
    crew = Crew(running.server.port, running.tenant())

    async def faults() -> None:
        for _ in range(10):
            running.redis.client_kill_filter(_type="normal", skipme=True)
            await crew.progress(2)

    crew.run_through(faults)
    assert len(crew.failures) <= 10 * len(crew.agents)
    assert not crew.lost
    crew.check()


def test_connections_that_the_store_closes_when_idle(running: Running) -> None:
    tenant = running.tenant()
    tenant.budget()
    assert one_of_each(tenant) == ALL_WELL
    failed = metric(running.url, MAINTENANCE, outcome="failed")
    running.redis.config_set("timeout", 1)
    eventually(lambda: "cycles-server" not in connected(running))
    assert one_of_each(tenant) == ALL_WELL
    # The sweeper's connection was closed between any two sweeps.
    sweeps = metric(running.url, MAINTENANCE, job="expiry", outcome="success")
    eventually(
        lambda: metric(running.url, MAINTENANCE, job="expiry", outcome="success") > sweeps + 1
    )
    assert metric(running.url, MAINTENANCE, outcome="failed") == failed
    running.redis.config_set("timeout", 0)


def connected(running: Running) -> list[str]:
    return [client["name"] for client in running.redis.client_list()]


def test_background_work_goes_on_after_a_restart_of_the_store(running: Running) -> None:
    tenant = running.tenant()
    tenant.budget()
    running.store.kill()
    running.store.start()
    tenant.reserve(100, ttl_ms=1000, grace_period_ms=0)
    assert tenant.amounts()["reserved"] == 100
    eventually(lambda: tenant.amounts()["reserved"] == 0)
    running.redis.script_flush()
    running.redis.client_kill_filter(_type="normal", skipme=True)
    tenant.reserve(100, ttl_ms=1000, grace_period_ms=0)
    eventually(lambda: tenant.amounts()["reserved"] == 0)
