"""The floor: what a reserve costs with no framework and no checks, over the same call to Redis.

A bare ASGI function reads JSON, runs ``lua/reserve.lua`` with the arguments that the server would
send, through the server's own connection class, and answers JSON. The server is held against it,
because whatever the machine does to one it does to the other.
"""

from __future__ import annotations

import hashlib
from typing import Any

import click
import orjson
import uvicorn

from benchmarks.tenant import Tenant, find_tenant
from cycles_server.ledger.scripts import reserve
from cycles_server.store.connection import SharedConnection
from cycles_server.store.keys import Keys
from cycles_server.store.layout import new_id
from cycles_server.store.scripts import load_script
from cycles_server.store.store import run_on_store

TIMEOUT_MS = 2000
_JSON = (b"content-type", b"application/json")


def create_floor(redis_url: str, tenant: Tenant) -> Any:
    """The ASGI application. A request without a body only asks whether it is there."""
    script = load_script(reserve.NAME)
    connection = SharedConnection(redis_url, timeout_ms=TIMEOUT_MS, name="floor")

    async def floor(scope: Any, receive: Any, send: Any) -> None:
        raw = (await receive())["body"]
        answer = {}
        if raw:
            asked = orjson.loads(raw)
            reservation_id = new_id(tenant.name)
            keys, arguments = tenant.reserve_call(
                asked["idempotency_key"],
                digest=hashlib.sha256(raw).digest(),
                reservation_id=reservation_id,
            )
            held = reserve.read(await connection.evaluate(script, keys, arguments))
            if not isinstance(held, reserve.Held):
                raise RuntimeError(f"the floor only holds: {held}")
            answer = {
                "decision": "ALLOW_WITH_CAPS" if held.caps else "ALLOW",
                "reservation_id": reservation_id,
                "expires_at_ms": held.expires_at_ms,
                "balances": held.balances.decode(),
            }
        body = orjson.dumps(answer)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return floor


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url", required=True)
@click.option("--tenant", required=True)
@click.option("--secret", required=True)
def main(host: str, port: int, redis_url: str, tenant: str, secret: str) -> None:
    """Serve the floor, with the options that the server gives uvicorn."""
    found = run_on_store(
        redis_url,
        Keys(),
        lambda store: find_tenant(store, tenant, secret),
        timeout_ms=TIMEOUT_MS,
    )
    uvicorn.run(
        create_floor(redis_url, found),
        host=host,
        port=port,
        loop="asyncio",
        http="httptools",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        backlog=4096,
    )


if __name__ == "__main__":
    main()
