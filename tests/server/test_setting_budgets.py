"""Budgets that are set while agents spend from them."""

from __future__ import annotations

import asyncio

from support.agents import Crew
from support.running import StartServer
from support.stores import Functions
from support.tenants import UNIT

from cycles_server.cli.provision import provide_budget


def test_a_budget_is_set_under_agents_at_work(start: StartServer) -> None:
    running = start()  # its books are looked at as a whole
    tenant = running.tenant(status="ACTIVE")
    crew = Crew(running.server.port, tenant)
    scopes = [f"tenant:{tenant.name}", *(agent.scope for agent in crew.agents)]

    def raise_all() -> None:
        do = Functions(running.store.url, tenant.keys)
        for more in range(1, 51):
            for scope in scopes:
                do(provide_budget, tenant.name, scope, UNIT, 10**12 + more, replace=True)

    crew.run_through(lambda: asyncio.to_thread(raise_all))
    assert not crew.failures
    assert {tenant.amounts(scope)["allocated"] for scope in scopes} == {10**12 + 50}
    crew.check()
