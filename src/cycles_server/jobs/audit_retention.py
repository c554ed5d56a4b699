"""Audit indexes forget what has outlived its retention; the entries themselves lapse alone."""

from __future__ import annotations

from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.scan import scan
from cycles_server.store.store import Store


async def prune_audit(store: Store, retention_days: int) -> int:
    """Drop index entries older than the retention; returns how many. 0 days: keep for ever.

    Raises:
        StoreError: the store failed; what was dropped stays dropped.
    """
    if retention_days == 0:
        return 0
    oldest_kept = await now_ms(store) - retention_days * DAY_MS
    dropped = 0
    async for indexes in scan(store, store.keys.audit_index_pattern()):
        for index in indexes:
            dropped += await store.write("ZREMRANGEBYSCORE", index, "-inf", f"({oldest_kept}")
    return dropped
