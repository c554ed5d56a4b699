"""One reservation, looked up by its id."""

from __future__ import annotations

import asyncio

from cycles_server.ledger.refusals import refusal
from cycles_server.reservations.bodies import ALL_MAPS, listed_fields, object_fields
from cycles_server.reservations.records import Row, row_of
from cycles_server.store.store import Store


async def find_reservation(store: Store, reservation_id: str) -> Row:
    """A reservation by its id alone, whoever owns it.

    Raises:
        Refusal: 404 for an unknown id.
        StoreError: the store failed, or the record is damaged.
    """
    fields = (*listed_fields(ALL_MAPS), *object_fields(ALL_MAPS))
    first, *others = store.keys.buckets_of_id(reservation_id)
    row = row_of(fields, await store.read("HMGET", first.reservation(reservation_id), *fields))
    if "tenant" in row:
        return row
    elsewhere = await asyncio.gather(
        *(store.read("HMGET", other.reservation(reservation_id), *fields) for other in others)
    )
    for reply in elsewhere:
        row = row_of(fields, reply)
        if "tenant" in row:
            return row
    raise refusal("NOT_FOUND")
