"""What governance's lists have in common: a query's order and cursor, and one page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from cycles_server.governance.listing.records import JsonRow
from cycles_server.paging.cursors import (
    Cursor,
    Place,
    fingerprint,
    foreign_cursor,
    malformed_cursor,
    read_cursor,
)
from cycles_server.paging.pages import ByteLimit, cut_page, page_along, page_body, ranked_page
from cycles_server.paging.queries import DEFAULT_LIMIT, Order, given, order_in, read_order
from cycles_server.paging.walks import Walk
from cycles_server.paging.windows import read_moment

Body = dict[str, Any]
Row = TypeVar("Row")

Look = Callable[[Sequence[Place], ByteLimit | None], Awaitable[Sequence[tuple[Place, Row]]]]
"""Reads the rows at some places and answers with those that are asked for; where there is a limit
of bytes, the first of them that fit."""

MOST_ROWS = 100
_MISSING, _PRESENT = "1", "0"
"""What a sort value begins with in a cursor; what is missing comes last."""
_NS_DIGITS = 6
"""How many digits nanoseconds have below the millisecond."""
_NS_IN_MS = 1_000_000


class SortKey(NamedTuple, Generic[Row]):
    """What a list can be sorted by.

    Attributes:
        type: of the values, ``int`` or ``str``.
        value_of: a row's value, None where it has none. May raise StoreCorrupt.
    """

    type: type
    value_of: Callable[[Row], Any]

    def place(self, row: Row, row_id: str) -> Place:
        """Where a row stands; the id breaks ties."""
        value = self.value_of(row)
        return (value is None, self.type() if value is None else value), row_id

    def in_cursor(self, place: Place) -> Place:
        """A place as a cursor can hold it, whatever the size of a number."""
        (is_missing, value), row_id = place
        return (_MISSING if is_missing else f"{_PRESENT}{value}"), row_id

    def from_cursor(self, place: Place) -> Place:
        """Raises: Refusal 400 for what is no such place."""
        text, row_id = place
        if text == _MISSING:
            return (True, self.type()), row_id
        try:
            if text[:1] != _PRESENT:
                raise ValueError("neither present nor missing")
            return (False, self.type(text[1:])), row_id
        except ValueError:
            raise malformed_cursor() from None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What any of the lists is asked for.

    Attributes:
        order: None for the list's own.
    """

    order: Order | None
    limit: int
    cursor: Cursor | None


def read_list_query(
    query: Mapping[str, Any],
    kind: str,
    sort_keys: Mapping[str, SortKey[Any]],
    default_key: str = "",
) -> ListQuery:
    """Read the order, limit and cursor of a validated query.

    Args:
        kind: which list it is.
        sort_keys: what it can be sorted by; nothing if it cannot.
        default_key: what a direction alone sorts by.

    Raises:
        Refusal: 400 for a cursor that is not one of this list, or of another order.
    """
    order = read_order(query, default_key)
    cursor = read_cursor(query, (kind,))
    if cursor is not None:
        # The cursor of a sorted list holds the order: a client need not repeat it.
        held = order_in(cursor, sort_keys)
        if order is not None and order != held:
            raise foreign_cursor()
        order = held
    limit = min(max(query.get("limit", DEFAULT_LIMIT), 1), MOST_ROWS)
    return ListQuery(order, limit, cursor)


async def list_page(
    query: ListQuery,
    kind: str,
    member: str,
    asked: Sequence[Any],
    *,
    walk: Callable[[Place | None], Walk],
    look: Look[Row],
    body_of: Callable[[Row], Body],
    sort_keys: Mapping[str, SortKey[Row]],
    id_of: Callable[[Row], str],
    most_bytes: int,
    size_of: Callable[[Row], int],
) -> Body:
    """One page of a list.

    Args:
        member: what its rows stand below.
        asked: whose rows and which, as JSON values: a cursor is bound to it.
        walk: the rows in the list's own order, behind a place of it.
        look: reads rows and leaves out what is not asked for.
        id_of: breaks ties in another order.
        most_bytes: stored bytes after which the page ends, before its limit of rows.
        size_of: how many stored bytes a row has.

    Raises:
        Refusal: 400 for a cursor of other filters.
        StoreError: the store failed.
    """
    binding = fingerprint(kind, query.order, *asked)
    after = None if query.cursor is None else query.cursor.place(str, binding)
    if query.order is None:
        room = ByteLimit(most_bytes)

        async def fitting(batch: Sequence[Place]) -> Sequence[tuple[Place, Row]]:
            return await look(batch, room)

        page = await page_along(walk(after), fitting, query.limit, step=query.limit + 1, room=room)
        end = page.end
    else:
        by, direction = query.order
        key = sort_keys[by]

        async def ranked(batch: Sequence[Place]) -> list[tuple[Place, Row]]:
            return [(key.place(row, id_of(row)), row) for _, row in await look(batch, None)]

        page = await ranked_page(
            walk(None),
            ranked,
            query.limit,
            descending=direction == "desc",
            after=None if after is None else key.from_cursor(after),
        )
        page = cut_page(page, ByteLimit(most_bytes), size_of)
        end = None if page.end is None else key.in_cursor(page.end)
    goes_on = None if end is None else Cursor(kind, end, query.order, binding)
    return page_body(member, [body_of(row) for _, row in page.rows], goes_on)


def text_key(name: str) -> SortKey[JsonRow]:
    """Sorts records by a text."""
    return SortKey(str, lambda row: row.body.get(name))


def instant_key(name: str) -> SortKey[JsonRow]:
    """Sorts records by an instant, however many digits it is written with."""

    def nanoseconds(row: JsonRow) -> int | None:
        try:
            moment = read_moment(row.body[name])
        except (KeyError, TypeError, ValueError):
            return None
        below = moment.below[:_NS_DIGITS].ljust(_NS_DIGITS, "0")
        return moment.ms * _NS_IN_MS + int(below)

    return SortKey(int, nanoseconds)


def search_in(query: Mapping[str, Any]) -> str:
    """The text to search for, as :func:`contains` wants it; empty for none."""
    return given(query, "search").strip().casefold()


def contains(needle: str, *texts: str | None) -> bool:
    """Whether a search finds its text in one of these."""
    return not needle or any(needle in text.casefold() for text in texts if text)
