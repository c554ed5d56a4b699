"""Audit indexes forget the entries that have lapsed; the entries themselves lapse alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cycles_server.paging.walks import STEP, IndexWalk
from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.scan import PAUSE_S, scan
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)


async def prune_audit(store: Store, retentions: Sequence[int]) -> int:
    """Drop what audit indexes hold of entries that are gone; returns how many those were.

    An entry that another server keeps for longer stays in its indexes.

    Args:
        retentions: for how many days the server keeps entries of each kind; 0 for ever. What is
            younger than the shortest is not looked at.

    Raises:
        StoreError: the store failed; what was dropped stays dropped.
    """
    limited = [days for days in retentions if days]
    if not limited:
        return 0
    oldest_kept = await now_ms(store) - min(limited) * DAY_MS
    dropped = 0
    async for indexes in scan(store, store.keys.audit_index_pattern()):
        for index in indexes:
            try:
                dropped += await _drop_gone(store, index, oldest_kept)
            except StoreCorrupt as error:
                logger.error("%s is no index of audit entries: %s", index, error)
    return dropped


async def _drop_gone(store: Store, index: str, oldest_kept: int) -> int:
    names = store.keys.bucket_of_audit(index)
    walk = IndexWalk(store, index, newest_first=False, highest=oldest_kept - 1)
    dropped = 0
    while batch := await walk.step(STEP):
        there = await asyncio.gather(
            *(store.read_bulk("EXISTS", names.audit_entry(log_id)) for _, log_id in batch)
        )
        gone = [log_id for (_, log_id), exists in zip(batch, there, strict=True) if not exists]
        if gone:
            dropped += await store.write("ZREM", index, *gone)
        await asyncio.sleep(PAUSE_S)
    return dropped
