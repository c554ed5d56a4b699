"""Audit indexes forget what has outlived its retention; the entries themselves lapse alone."""

from __future__ import annotations

from cycles_server.store.clock import now_ms
from cycles_server.store.scan import scan
from cycles_server.store.store import Store

_DAY_MS = 86_400_000


async def prune_audit(store: Store, retention_days: int) -> int:
    """Drop index entries older than the retention; returns how many. 0 days: keep for ever.

    Raises:
        StoreError: the store failed; what was dropped stays dropped.
    """
    if retention_days == 0:
        return 0
    oldest_kept = await now_ms(store) - retention_days * _DAY_MS
    dropped = 0
    async for indexes in scan(store, store.keys.audit_index_pattern()):
        for index in indexes:
            dropped += await store.write("ZREMRANGEBYSCORE", index, "-inf", f"({oldest_kept}")
    return dropped
