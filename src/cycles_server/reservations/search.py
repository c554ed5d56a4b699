"""Finding the reservations of a page.

Three ways, by what is asked:

- one idempotency key: its record names the reservation;
- no order, or the order of creation: along the tenant's index, at the cost of the page;
- any other order: through the index in bounded steps, keeping the best rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cycles_server.ledger.retention import IDEMPOTENCY_MS
from cycles_server.paging.cursors import Place
from cycles_server.reservations.index import STEP, IndexWalk, Position
from cycles_server.reservations.records import Row, log_unusable, number_of, read_rows, text_of
from cycles_server.reservations.selection import Selection
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

MOST_EXAMINED = 5_000
"""After so many rows an unsorted page is given as it is, short or empty, with a cursor."""

CREATED = "created_at_ms"
_ID_LENGTH = 36

Order = tuple[str, str]
"""Sort key, and ``asc`` or ``desc``."""


class Found(NamedTuple):
    """The rows of a page, by what they are ordered by and their ids, and the place where it
    ends if there may be more."""

    rows: list[Place]
    end: Place | None


def _tenant_of_subject(row: Row) -> str:
    # A list is one tenant's: a subject names that tenant, or none.
    return text_of(row, "tenant") if text_of(row, "scope_path").startswith("tenant:") else ""


# Sort key → the field it needs and the value that rows are ordered by.
_SORT_VALUES: dict[str, tuple[str, Callable[[Row], Any]]] = {
    "reservation_id": ("tenant", lambda row: ""),  # the id breaks all the ties
    "tenant": ("scope_path", _tenant_of_subject),
    "scope_path": ("scope_path", lambda row: text_of(row, "scope_path")),
    "status": ("state", lambda row: text_of(row, "state")),
    "reserved": ("estimate_amount", lambda row: number_of(row, "estimate_amount")),
    "expires_at_ms": ("expires_at", lambda row: number_of(row, "expires_at")),
}
_NUMBERS = (CREATED, "reserved", "expires_at_ms")
SORT_TYPES: dict[str, type] = {
    by: int if by in _NUMBERS else str for by in (CREATED, *_SORT_VALUES)
}
"""Every sort key (contract: ReservationSortBy), and the type of its values."""


async def find(
    store: Store,
    names: TenantKeys,
    selection: Selection,
    order: Order | None,
    limit: int,
    after: Place | None,
) -> Found:
    """The page of at most ``limit`` rows behind ``after``.

    Raises:
        StoreError: the store failed.
    """
    if selection.idempotency_key:
        return Found(await _by_idempotency_key(store, names, selection), None)
    by, direction = order or (CREATED, "desc")
    descending = direction == "desc"
    if by != CREATED:
        return await _ranked(store, names, selection, by, descending, limit, after)
    most = MOST_EXAMINED if order is None else None
    return await _along_index(store, names, selection, descending, limit, after, most)


async def _by_idempotency_key(store: Store, names: TenantKeys, selection: Selection) -> list[Place]:
    """The one reservation made under a key (contract: listReservations, recovery)."""
    record = await store.read("GET", names.idempotency("reserve", selection.idempotency_key))
    if record is not None and len(record) == _ID_LENGTH:
        return [(0, record.decode())]  # a page of one row needs no order
    # The record outlives its reservation's lease by a day: what it no longer names is older.
    # Should the key have been used again since, the youngest use is the one meant.
    highest = await now_ms(store) - IDEMPOTENCY_MS
    if selection.created.upper is not None:
        highest = min(highest, selection.created.upper)
    walk = IndexWalk(
        store, names, newest_first=True, lowest=selection.created.lower, highest=highest
    )
    while batch := await walk.step(STEP):
        matching = await _matching(store, names, batch, selection)
        if matching:
            return [matching[0][0]]
    return []


async def _along_index(
    store: Store,
    names: TenantKeys,
    selection: Selection,
    descending: bool,
    limit: int,
    after: Place | None,
    most: int | None,
) -> Found:
    walk = IndexWalk(
        store,
        names,
        newest_first=descending,
        lowest=selection.created.lower,
        highest=selection.created.upper,
        after=after,
    )
    found: list[Place] = []
    examined = 0
    # One row more than the page tells whether there is another page.
    count = STEP if selection.looks_at_rows else limit + 1
    while batch := await walk.step(count):
        found += [position for position, _ in await _matching(store, names, batch, selection)]
        if len(found) > limit:
            return Found(found[:limit], found[limit - 1])
        examined += len(batch)
        if most is not None and examined >= most:
            return Found(found, batch[-1])
        count = min(2 * count, STEP)
    return Found(found, None)


async def _ranked(
    store: Store,
    names: TenantKeys,
    selection: Selection,
    by: str,
    descending: bool,
    limit: int,
    after: Place | None,
) -> Found:
    field, value_of = _SORT_VALUES[by]
    walk = IndexWalk(
        store,
        names,
        newest_first=True,
        lowest=selection.created.lower,
        highest=selection.created.upper,
    )
    best: list[Place] = []
    while batch := await walk.step(STEP):
        for (_, row_id), row in await _matching(store, names, batch, selection, field):
            try:
                place = (value_of(row), row_id)
            except StoreCorrupt as error:
                log_unusable(row_id, error)
                continue
            if after is None or (place < after if descending else place > after):
                best.append(place)
        best = sorted(best, reverse=descending)[: limit + 1]
    return Found(best[:limit], best[limit - 1] if len(best) > limit else None)


async def _matching(
    store: Store,
    names: TenantKeys,
    batch: list[Position],
    selection: Selection,
    *further_fields: str,
) -> list[tuple[Position, Row]]:
    """The rows of a batch that are asked for, with no more than the fields that decide."""
    fields = tuple(dict.fromkeys((*selection.fields, *further_fields)))
    rows = await read_rows(store, names, [row_id for _, row_id in batch], fields)
    matching = []
    for position, row in zip(batch, rows, strict=True):
        try:
            if row is not None and selection.admits(row):
                matching.append((position, row))
        except StoreCorrupt as error:
            log_unusable(position[1], error)
    return matching
