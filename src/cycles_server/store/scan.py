"""Walking over keys in bounded steps, leaving room for requests between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cycles_server.store.store import Store

COUNT = 500
PAUSE_S = 0.002
"""Between two steps, so that a long scan leaves room for requests."""


async def scan(store: Store, pattern: str) -> AsyncIterator[list[str]]:
    """Batches of the keys that match a pattern; a key may come more than once."""
    cursor = b"0"
    while True:
        cursor, keys = await store.read_bulk("SCAN", cursor, "MATCH", pattern, "COUNT", COUNT)
        if keys:
            yield [key.decode() for key in keys]
        if cursor == b"0":
            return
        await asyncio.sleep(PAUSE_S)
