"""The list of reservations: what a query asks for, and one page of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cycles_server.ledger.bodies import Body
from cycles_server.paging.cursors import (
    Cursor,
    fingerprint,
    foreign_cursor,
    malformed_cursor,
    read_cursor,
)
from cycles_server.paging.pages import ByteLimit, page_body
from cycles_server.paging.queries import DEFAULT_LIMIT, Order, order_in, read_order
from cycles_server.reservations.bodies import (
    ALL_MAPS,
    listed_fields,
    object_fields,
    reservation_detail,
)
from cycles_server.reservations.records import (
    Row,
    add_fields,
    log_unusable,
    number_of,
    read_lengths,
    read_rows,
)
from cycles_server.reservations.search import CREATED, SORT_KEYS, find
from cycles_server.reservations.selection import Selection, read_selection
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

_UNSORTED, _SORTED = "reservations", "reservations-sorted"


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list asks for, but for whose it is.

    Attributes:
        order: None where the order is the server's own.
        maps: the heavy members that ``include`` names.
    """

    selection: Selection
    order: Order | None
    limit: int
    maps: frozenset[str]
    cursor: Cursor | None


def read_list_query(query: Mapping[str, Any], scope_filter: tuple[str, ...]) -> ListQuery:
    """Read the validated query of listReservations.

    Raises:
        Refusal: 400 for a window that is none, a malformed cursor, or an unsorted list's cursor
            on a sorted one.
    """
    selection = read_selection(query, scope_filter)
    order = read_order(query, CREATED)
    cursor = read_cursor(query, (_UNSORTED, _SORTED))
    if cursor is not None:
        if cursor.kind == _UNSORTED and order is not None:
            raise foreign_cursor()
        # A sorted list's cursor holds the order: a client need not repeat it.
        order = order or _order_in(cursor)
    tokens = {token.strip() for token in query.get("include", ())}
    return ListQuery(
        selection=selection,
        order=order,
        limit=query.get("limit", DEFAULT_LIMIT),
        maps=ALL_MAPS & tokens,
        cursor=cursor,
    )


def _order_in(cursor: Cursor) -> Order | None:
    if (cursor.order is None) != (cursor.kind == _UNSORTED):
        raise malformed_cursor()
    return order_in(cursor, SORT_KEYS)


async def list_page(store: Store, tenant: str, query: ListQuery, most_bytes: int) -> Body:
    """ReservationListResponse: one page of a tenant's reservations.

    Args:
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for a cursor of another order, filter or window.
        StoreError: the store failed.
    """
    binding = ""
    if query.order is not None:
        binding = fingerprint(tenant, query.order, query.selection.asked())
    after = None
    if query.cursor is not None:
        by = CREATED if query.order is None else query.order[0]
        after = query.cursor.place(SORT_KEYS[by].type, binding)
    names = store.keys.tenant(tenant)
    found = await find(store, names, query.selection, query.order, query.limit, after)
    places = [place for place, _ in found.rows]
    ids = [row_id for _, row_id in places]
    bodies, looked_at = await _bodies(store, names, ids, query, most_bytes)
    end = found.end if looked_at == len(ids) else places[looked_at - 1]
    kind = _UNSORTED if query.order is None else _SORTED
    goes_on = None if end is None else Cursor(kind, end, query.order, binding)
    return page_body("reservations", bodies, goes_on)


async def _bodies(
    store: Store, names: TenantKeys, ids: Sequence[str], query: ListQuery, most_bytes: int
) -> tuple[list[Body], int]:
    """The bodies of the first rows that fit, one at least, and of how many ids they are."""
    # What is shown, and what decides.
    fields = tuple(dict.fromkeys((*listed_fields(query.maps), *query.selection.fields)))
    objects = object_fields(query.maps)
    read, lengths = await asyncio.gather(
        read_rows(store, names, ids, fields),
        read_lengths(store, names, ids, objects),
    )
    fitting: dict[str, Row] = {}
    with_objects: list[str] = []
    room = ByteLimit(most_bytes)
    looked_at = 0
    for row_id, row, length in zip(ids, read, lengths, strict=True):
        if row is not None and _still_asked_for(query.selection, row_id, row):
            if not room.admits(length + sum(map(len, row.values()))):
                break
            fitting[row_id] = row
            if length:
                with_objects.append(row_id)
        looked_at += 1
    await add_fields(store, names, fitting, with_objects, objects)
    bodies = []
    for row_id, row in fitting.items():
        try:
            bodies.append(reservation_detail(row_id, row, query.maps))
        except StoreCorrupt as error:
            log_unusable(row_id, error)
    return bodies, looked_at


def _still_asked_for(selection: Selection, row_id: str, row: Row) -> bool:
    """A row may have changed since it was found: a list of ACTIVE ones shows no other."""
    try:
        return selection.admits(row) and selection.created.admits(number_of(row, "created_at"))
    except StoreCorrupt as error:
        log_unusable(row_id, error)
        return False
