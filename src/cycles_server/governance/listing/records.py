"""Rows that are JSON records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cycles_server.governance.records import Record, read_record
from cycles_server.paging.cursors import Place
from cycles_server.paging.pages import ByteLimit
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Body = dict[str, Any]


_AT_ONCE = 16_384
"""Bytes of each record that are read together; a longer one is read by itself, when its turn has
come and there is room for it."""


class JsonRow(NamedTuple):
    """What the contract says of a record, and how many bytes are stored of it."""

    body: Body
    size: int


async def read_rows(
    store: Store,
    places: Sequence[Place],
    key_of: Callable[[Place], str],
    body_of: Callable[[Record], Body],
    is_asked_for: Callable[[Place, Body], bool],
    room: ByteLimit | None = None,
) -> list[tuple[Place, JsonRow]]:
    """The rows of those records that are there and asked for, until there is no more room; one
    that cannot be read is logged, left out.

    Args:
        body_of: may raise StoreCorrupt.

    Raises:
        StoreError: the store failed.
    """
    keys = [key_of(place) for place in places]
    replies = await asyncio.gather(
        *(store.read_bulk("GETRANGE", key, 0, _AT_ONCE - 1) for key in keys),
        return_exceptions=True,
    )
    rows = []
    for place, key, reply in zip(places, keys, replies, strict=True):
        try:
            if isinstance(reply, BaseException):
                raise reply
            stored = reply
            if len(stored) == _AT_ONCE:
                stored = await store.read_bulk("GET", key)
            if not stored:
                continue
            body = body_of(read_record(key, stored))
        except StoreCorrupt as error:
            logger.error("%s left out of a list: %s", key, error)
            continue
        if is_asked_for(place, body):
            if room is not None and not room.admits(len(stored)):
                break
            rows.append((place, JsonRow(body, len(stored))))
    return rows
