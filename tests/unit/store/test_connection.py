"""The shared connection at its end."""

from __future__ import annotations

import asyncio

from support.redis import RedisServer

from cycles_server.store.connection import SharedConnection

TURNS = 60
"""More turns of the event loop than it takes to connect."""


def test_it_closes_at_whatever_moment(store: RedisServer) -> None:
    """Also while it connects for somebody who has given up: the server would never end."""

    async def close_after(turns: int) -> None:
        connection = SharedConnection(store.url, timeout_ms=2000)
        asked = connection.command("PING")
        asked.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await connection.close()

    async def trial() -> None:
        for turns in range(TURNS):
            await close_after(turns)
            await asyncio.gather(*(close_after(turns) for _ in range(10)))

    asyncio.run(trial())
