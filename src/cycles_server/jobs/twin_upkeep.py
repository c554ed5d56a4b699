"""Keeping the twins of large sets true, member by member (see ``paging/twins.py``)."""

from __future__ import annotations

from cycles_server.paging.twins import compare
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import Listed
from cycles_server.store.scan import PAUSE_S, scan
from cycles_server.store.store import Store

_NOBODY = ""


async def tend_twins(store: Store) -> int:
    """Compare every twin with its set; returns how many members were added or dropped. The twin
    of a set that is gone goes, too.

    Raises:
        StoreError: the store failed; what was done stays.
    """
    tenants = store.keys.listed_tenants
    changed = await _tend(store, tenants)
    async for twins in scan(store, store.keys.twin_pattern()):
        for twin in twins:
            if twin != tenants.twin:  # a pattern with tags does not find it
                changed += await _tend(store, store.keys.listed_by_twin(twin))
    return changed


async def _tend(store: Store, listed: Listed) -> int:
    try:
        if await store.read_bulk("ZCARD", listed.twin):
            return await compare(store, _NOBODY, listed, PAUSE_S)
    except StoreCorrupt:
        pass  # one of the two is something else: its lists say so
    return 0
