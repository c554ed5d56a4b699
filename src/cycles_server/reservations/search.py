"""Finding the reservations of a page.

Three ways, by what is asked:

- one idempotency key: its record names the reservation;
- no order, or the order of creation: along the tenant's index, at the cost of the page;
- any other order: through the index in bounded steps, keeping the best rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cycles_server.ledger.retention import IDEMPOTENCY_MS
from cycles_server.paging.cursors import Place
from cycles_server.paging.pages import Page, page_along, ranked_page
from cycles_server.paging.queries import Order
from cycles_server.paging.walks import STEP, IndexWalk
from cycles_server.paging.windows import Window
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

Placed = tuple[Place, Row]
"""A row with no more than the fields that decide, and its place in the order asked for."""


class SortKey(NamedTuple):
    """What a list can be sorted by.

    Attributes:
        type: of the values.
        field: what the value is read from, beside the tenant.
        value_of: the value of a row. Raises StoreCorrupt if it cannot be read.
    """

    type: type
    field: str
    value_of: Callable[[Row], Any]


def _tenant_of_subject(row: Row) -> str:
    # A list is one tenant's: a subject names that tenant, or none.
    return text_of(row, "tenant") if text_of(row, "scope_path").startswith("tenant:") else ""


def _text(field: str) -> SortKey:
    return SortKey(str, field, lambda row: text_of(row, field))


def _number(field: str) -> SortKey:
    return SortKey(int, field, lambda row: number_of(row, field))


SORT_KEYS: dict[str, SortKey] = {
    CREATED: _number("created_at"),
    "reservation_id": SortKey(str, "tenant", lambda row: ""),  # the id breaks all the ties
    "tenant": SortKey(str, "scope_path", _tenant_of_subject),
    "scope_path": _text("scope_path"),
    "status": _text("state"),
    "reserved": _number("estimate_amount"),
    "expires_at_ms": _number("expires_at"),
}
"""Every sort key (contract: ReservationSortBy)."""


async def find(
    store: Store,
    names: TenantKeys,
    selection: Selection,
    order: Order | None,
    limit: int,
    after: Place | None,
) -> Page[Row]:
    """The page of at most ``limit`` rows behind ``after``.

    Raises:
        StoreError: the store failed.
    """
    if selection.idempotency_key:
        return Page(await _by_idempotency_key(store, names, selection), None)
    by, direction = order or (CREATED, "desc")
    descending = direction == "desc"
    if by != CREATED:
        walk = _walk(store, names, selection.created, newest_first=True)

        async def ranked(batch: Sequence[Place]) -> list[Placed]:
            return await _ranked(store, names, batch, selection, SORT_KEYS[by])

        return await ranked_page(walk, ranked, limit, descending=descending, after=after)
    walk = _walk(store, names, selection.created, newest_first=descending, after=after)

    async def matching(batch: Sequence[Place]) -> list[Placed]:
        return await _matching(store, names, batch, selection)

    step = STEP if selection.looks_at_rows else limit + 1
    most = MOST_EXAMINED if order is None else None
    return await page_along(walk, matching, limit, step=step, most_examined=most)


def _walk(
    store: Store,
    names: TenantKeys,
    created: Window,
    *,
    newest_first: bool,
    after: Place | None = None,
) -> IndexWalk:
    return IndexWalk(
        store,
        names.index,
        newest_first=newest_first,
        lowest=created.lower,
        highest=created.upper,
        after=after,
    )


async def _by_idempotency_key(
    store: Store, names: TenantKeys, selection: Selection
) -> list[Placed]:
    """The one reservation made under a key (contract: listReservations, recovery)."""
    record = await store.read("GET", names.idempotency("reserve", selection.idempotency_key))
    if record is not None and len(record) == _ID_LENGTH:
        return [((0, record.decode()), {})]  # a page of one row needs no order
    # The record outlives its reservation's lease by a day: what it no longer names is older.
    # Should the key have been used again since, the youngest use is the one meant.
    highest = await now_ms(store) - IDEMPOTENCY_MS
    if selection.created.upper is not None:
        highest = min(highest, selection.created.upper)
    older = Window(selection.created.lower, highest)
    walk = _walk(store, names, older, newest_first=True)
    while batch := await walk.step(STEP):
        matching = await _matching(store, names, batch, selection)
        if matching:
            return matching[:1]
    return []


async def _ranked(
    store: Store, names: TenantKeys, batch: Sequence[Place], selection: Selection, key: SortKey
) -> list[Placed]:
    """The rows of a batch that are asked for, placed by a sort key."""
    rows = []
    for (_, row_id), row in await _matching(store, names, batch, selection, key.field):
        try:
            place = (key.value_of(row), row_id)
        except StoreCorrupt as error:
            log_unusable(row_id, error)
            continue
        rows.append((place, row))
    return rows


async def _matching(
    store: Store,
    names: TenantKeys,
    batch: Sequence[Place],
    selection: Selection,
    *further_fields: str,
) -> list[Placed]:
    """The rows of a batch that are asked for, with no more than the fields that decide."""
    fields = tuple(dict.fromkeys((*selection.fields, *further_fields)))
    rows = await read_rows(store, names, [row_id for _, row_id in batch], fields)
    matching = []
    for place, row in zip(batch, rows, strict=True):
        try:
            if row is not None and selection.admits(row):
                matching.append((place, row))
        except StoreCorrupt as error:
            log_unusable(place[1], error)
    return matching
