"""The application under a server that is not ours: it relies on nothing but ASGI."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from support.running import Running
from support.tenants import Tenant

from cycles_server.planes.application import create_app
from cycles_server.planes.runtime import RUNTIME
from cycles_server.settings.runtime import RuntimeSettings

ROUNDS = 10


async def _lifespan(app: Any, ended: asyncio.Event, started: asyncio.Event) -> None:
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        message = next(asked)
        if message["type"] == "lifespan.shutdown":
            await ended.wait()
        return message

    async def send(message: Any) -> None:
        assert message["type"].endswith(".complete")
        started.set()

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


def test_extensions_that_all_requests_share(running: Running) -> None:
    """Some servers hand the same dictionary to every request: no answer may go astray in it."""
    tenants = [running.tenant() for _ in range(4)]
    for tenant in tenants:
        tenant.budget()
    shared: dict[str, Any] = {"http.response.pathsend": {}}

    async def one(client: httpx.AsyncClient, tenant: Tenant) -> None:
        headers = {"X-Cycles-API-Key": tenant.secret}
        reserved = await client.post(
            "/v1/reservations", json=tenant.reserve_body(1), headers=headers
        )
        assert reserved.status_code == 200
        assert reserved.headers["x-cycles-tenant"] == tenant.name
        path = f"/v1/reservations/{reserved.json()['reservation_id']}"
        got = await client.get(path, headers=headers)
        assert (got.status_code, got.json()["subject"]["tenant"]) == (200, tenant.name)
        balances = await client.get(f"/v1/balances?tenant={tenant.name}", headers=headers)
        assert balances.json()["balances"][0]["scope_path"] == f"tenant:{tenant.name}"
        assert (await client.get("/v1/nowhere")).status_code == 404
        live = await client.get("/actuator/health/liveness")
        assert live.json() == {"status": "UP"}

    async def trial() -> None:
        app = create_app(RUNTIME, RuntimeSettings(redis_url=running.store.url))

        async def server(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "extensions": shared}, receive, send)

        started, ended = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_lifespan(app, ended, started))
            await started.wait()
            transport = httpx.ASGITransport(app=server)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await asyncio.gather(*(one(client, tenant) for tenant in tenants * ROUNDS))
            ended.set()

    asyncio.run(trial())
    assert shared == {"http.response.pathsend": {}}
    for tenant in tenants:
        assert tenant.amounts()["reserved"] == ROUNDS
