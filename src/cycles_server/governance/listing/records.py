"""Rows that are JSON records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from cycles_server.governance.records import Record, read_record
from cycles_server.paging.cursors import Place
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Body = dict[str, Any]


async def read_bodies(
    store: Store,
    places: Sequence[Place],
    key_of: Callable[[Place], str],
    body_of: Callable[[Record], Body],
) -> list[tuple[Place, Body]]:
    """The bodies of those records that are there; one that cannot be read is logged, left out.

    Args:
        body_of: may raise StoreCorrupt.

    Raises:
        StoreError: the store failed.
    """
    keys = [key_of(place) for place in places]
    replies = await asyncio.gather(
        *(store.read_bulk("GET", key) for key in keys), return_exceptions=True
    )
    rows = []
    for place, key, reply in zip(places, keys, replies, strict=True):
        try:
            if isinstance(reply, BaseException):
                raise reply
            if reply:
                rows.append((place, body_of(read_record(key, reply))))
        except StoreCorrupt as error:
            logger.error("%s left out of a list: %s", key, error)
    return rows
