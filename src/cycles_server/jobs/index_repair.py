"""Keeping the list indexes true: what is missing comes in, what is gone goes out.

A reservation that this server makes enters its tenant's index in the same step. One made by a
server without the index does not, and an index outlives the records that it names.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from cycles_server.ledger.retention import KEPT_MS
from cycles_server.paging.walks import STEP, IndexWalk
from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.scan import PAUSE_S, scan
from cycles_server.store.store import Store

_PRUNE_AGE_MS = KEPT_MS + DAY_MS
"""Records outlive their reservation's end by less: entries younger than this are left alone."""


async def repair_index(store: Store) -> int:
    """Add every reservation that its tenant's index lacks; returns how many those were.

    Raises:
        StoreError: the store failed; what was added stays.
    """
    added = 0
    async for keys in scan(store, store.keys.reservation_pattern()):
        for start in range(0, len(keys), STEP):
            added += await _add_missing(store, keys[start : start + STEP])
    return added


async def prune_index(store: Store) -> int:
    """Drop index entries whose record has outlived its time; returns how many those were.

    Raises:
        StoreError: the store failed; what was dropped stays dropped.
    """
    dropped = 0
    oldest_kept = await now_ms(store) - _PRUNE_AGE_MS
    async for keys in scan(store, store.keys.index_pattern()):
        for key in keys:
            tenant = store.keys.index_tenant(key)
            if store.keys.tenant(tenant).index == key:
                dropped += await _drop_gone(store, tenant, oldest_kept)
    return dropped


async def _add_missing(store: Store, keys: Sequence[str]) -> int:
    rows = await asyncio.gather(
        *(store.read_bulk("HMGET", key, "tenant", "created_at") for key in keys),
        return_exceptions=True,
    )
    entries: dict[str, list[str]] = defaultdict(list)
    for key, row in zip(keys, rows, strict=True):
        if isinstance(row, StoreCorrupt):
            continue  # not a hash: no list could show it
        if isinstance(row, BaseException):
            raise row
        tenant, created = row
        if tenant is None or created is None or not created.isdigit():
            continue
        names = store.keys.tenant(tenant.decode())
        reservation_id = store.keys.reservation_id(key)
        if names.reservation(reservation_id) == key:
            entries[names.index] += [created.decode(), reservation_id]
    added = await asyncio.gather(
        *(store.write("ZADD", index, "NX", *members) for index, members in entries.items())
    )
    return sum(added)


async def _drop_gone(store: Store, tenant: str, oldest_kept: int) -> int:
    names = store.keys.tenant(tenant)
    walk = IndexWalk(store, names.index, newest_first=False, highest=oldest_kept - 1)
    dropped = 0
    while batch := await walk.step(STEP):
        there = await asyncio.gather(
            *(store.read_bulk("EXISTS", names.reservation(row_id)) for _, row_id in batch)
        )
        gone = [row_id for (_, row_id), exists in zip(batch, there, strict=True) if not exists]
        if gone:
            dropped += await store.write("ZREM", names.index, *gone)
        await asyncio.sleep(PAUSE_S)
    return dropped
