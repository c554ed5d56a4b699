"""Stored reservations: reading them, and reading what a field says.

A record made by another server lacks what only this one writes; nothing here needs that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cycles_server.jsontext import INT64_MAX
from cycles_server.store.errors import StoreCorrupt, StoreError
from cycles_server.store.keys import TenantKeys
from cycles_server.store.numbers import stored_integer
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Row = dict[str, bytes]
"""The fields of a reservation's hash that were asked for and have a value."""

_FINAL_FIELD = {"COMMITTED": "committed_at", "RELEASED": "released_at"}


# -- reading -------------------------------------------------------------------------------------


async def read_rows(
    store: Store, names: TenantKeys, ids: Sequence[str], fields: Sequence[str]
) -> list[Row | None]:
    """Reservations of one tenant, in the order of ``ids``; ``fields`` must hold ``tenant``.

    None where there is no record (any more), where it is another tenant's, or where it is not a
    hash: one bad record hides itself and no other.

    Raises:
        StoreError: the store failed.
    """
    replies = await asyncio.gather(
        *(store.read_bulk("HMGET", names.reservation(row), *fields) for row in ids),
        return_exceptions=True,
    )
    owner = names.tenant.encode()
    rows: list[Row | None] = []
    for row_id, reply in zip(ids, replies, strict=True):
        if isinstance(reply, StoreCorrupt):
            log_unusable(row_id, reply)
            rows.append(None)
        elif isinstance(reply, BaseException):
            raise reply
        else:
            row = row_of(fields, reply)
            rows.append(row if row.get("tenant") == owner else None)
    return rows


async def read_lengths(
    store: Store, names: TenantKeys, ids: Sequence[str], fields: Sequence[str]
) -> list[int]:
    """How many bytes some fields hold together, for each of ``ids``; 0 too where the record
    cannot be read.

    Raises:
        StoreError: the store failed.
    """
    replies = await asyncio.gather(
        *(
            store.read_bulk("HSTRLEN", names.reservation(row_id), field)
            for row_id in ids
            for field in fields
        ),
        return_exceptions=True,
    )
    lengths = [0] * len(ids)
    for place, reply in enumerate(replies):
        if isinstance(reply, BaseException) and not isinstance(reply, StoreCorrupt):
            raise reply
        if isinstance(reply, int):
            lengths[place // len(fields)] += reply
    return lengths


async def add_fields(
    store: Store,
    names: TenantKeys,
    rows: dict[str, Row],
    ids: Sequence[str],
    fields: Sequence[str],
) -> None:
    """Read further fields of ``ids`` into their rows; drop what is gone meanwhile.

    Raises:
        StoreError: the store failed.
    """
    further = await read_rows(store, names, ids, ("tenant", *fields))
    for row_id, row in zip(ids, further, strict=True):
        if row is None:
            del rows[row_id]
        else:
            rows[row_id].update(row)


def row_of(fields: Sequence[str], reply: Sequence[bytes | None]) -> Row:
    """A row from HMGET's answer."""
    # Another server writes an optional field that has no value as an empty text.
    return {field: value for field, value in zip(fields, reply, strict=True) if value}


def log_unusable(reservation_id: str, error: StoreError) -> None:
    logger.error("reservation %s left out of a list: %s", reservation_id, error)


# -- what a row says -----------------------------------------------------------------------------


def text_of(row: Row, field: str) -> str:
    """Raises: StoreCorrupt if the field is missing or not UTF-8."""
    try:
        return row[field].decode()
    except (KeyError, UnicodeDecodeError):
        raise StoreCorrupt(f"{field} is missing or unreadable") from None


def number_of(row: Row, field: str) -> int:
    """A time or an amount. Raises: StoreCorrupt if it is none of int64, from 0 up."""
    try:
        number = stored_integer(row[field])
    except (KeyError, ValueError):
        raise StoreCorrupt(f"{field} is not an integer") from None
    if not 0 <= number <= INT64_MAX:
        raise StoreCorrupt(f"{field} is out of range")
    return number


def finalized_at_ms(row: Row) -> int | None:
    """When a commit or release ended it, epoch ms; None while ACTIVE, and after an expiry."""
    field = _FINAL_FIELD.get(text_of(row, "state"))
    return number_of(row, field) if field is not None and field in row else None
