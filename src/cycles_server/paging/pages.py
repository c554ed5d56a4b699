"""One page of a list: its rows, gathered from a walk, and where it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from cycles_server.paging.cursors import Cursor, Place
from cycles_server.paging.walks import STEP, Walk

Row = TypeVar("Row")

Look = Callable[[Sequence[Place]], Awaitable[Sequence[tuple[Place, Row]]]]
"""Reads the rows at some places of a walk and answers with those that are asked for, each with
the place that the page is ordered by."""


class Page(NamedTuple, Generic[Row]):
    """The rows of a page with their places, and the place where it ends if there may be more."""

    rows: list[tuple[Place, Row]]
    end: Place | None


async def page_along(
    walk: Walk,
    look: Look[Row],
    limit: int,
    *,
    step: int,
    most_examined: int | None = None,
    room: ByteLimit | None = None,
) -> Page[Row]:
    """The first ``limit`` rows along a walk, which has the page's order.

    Args:
        step: how many places to look at first; later steps are longer.
        most_examined: after so many places the page is given as it is, short or empty.
        room: what ``look`` fills; once it has turned a row away, the page ends with the row before.

    Raises:
        StoreError: the store failed.
    """
    found: list[tuple[Place, Row]] = []
    examined = 0
    while batch := await walk.step(step):
        found += await look(batch)
        # One row more than the page tells whether there is another page.
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1][0])
        if room is not None and room.reached:
            return Page(found, found[-1][0])
        examined += len(batch)
        if most_examined is not None and examined >= most_examined:
            return Page(found, batch[-1])
        step = min(2 * step, STEP)
    return Page(found, None)


async def ranked_page(
    walk: Walk, look: Look[Row], limit: int, *, descending: bool, after: Place | None
) -> Page[Row]:
    """The first ``limit`` rows behind ``after`` in an order that is not the walk's.

    The whole walk is made; no more than a page and a step of it are kept.

    Raises:
        StoreError: the store failed.
    """
    best: list[tuple[Place, Row]] = []
    while batch := await walk.step(STEP):
        for place, row in await look(batch):
            if after is None or (place < after if descending else place > after):
                best.append((place, row))
        best = sorted(best, key=itemgetter(0), reverse=descending)[: limit + 1]
    return Page(best[:limit], best[limit - 1][0] if len(best) > limit else None)


class ByteLimit:
    """How many stored bytes a page may hold. Its first row fits whatever its size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._is_empty = True
        self.reached = False
        """Whether a row has been turned away."""

    def admits(self, size: int) -> bool:
        """Whether a further row fits; it counts if it does."""
        if not self._is_empty and self._bytes + size > self._most:
            self.reached = True
            return False
        self._is_empty = False
        self._bytes += size
        return True


def cut_page(page: Page[Row], room: ByteLimit, size_of: Callable[[Row], int]) -> Page[Row]:
    """A page as far as there is room for it."""
    rows = page.rows
    for number, (_, row) in enumerate(rows):
        if not room.admits(size_of(row)):
            return Page(rows[:number], rows[number - 1][0])
    return page


def page_body(member: str, rows: Sequence[Any], next_cursor: Cursor | None) -> dict[str, Any]:
    """A list's answer: the rows below ``member``, and how to get the next ones if there are any."""
    body: dict[str, Any] = {member: rows}
    if next_cursor is not None:
        body["next_cursor"] = next_cursor.text()
    body["has_more"] = next_cursor is not None
    return body
