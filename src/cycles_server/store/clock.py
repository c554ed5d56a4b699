"""The ledger's clock: the store's, never the web process's."""

from __future__ import annotations

from cycles_server.store.store import Store


async def now_ms(store: Store) -> int:
    """The store's time, epoch ms."""
    seconds, micros = await store.read("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
