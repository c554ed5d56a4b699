"""Walks over a list's rows in bounded steps, in an order, from any place in it.

A walk yields places; whoever walks reads the rows there, if there still are any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from cycles_server.paging.cursors import Place
from cycles_server.store.store import Store

Key = TypeVar("Key")

Position = tuple[int, str]
"""A place in an index by time: epoch ms, and the id."""
Span = tuple[str, str]
"""The texts from the first one on and below the second, by their bytes."""

STEP = 250
"""How many rows a long walk looks at before others get their turn."""
_SPARE = 16
"""Room for rows that share a millisecond with the last one seen."""
_PIECE = 1_000
"""How many members of a set are put in order before others get their turn."""


class Walk(Protocol):
    """A way through a list."""

    async def step(self, count: int) -> Sequence[Place]:
        """At least one and at most ``count`` further places; none at the end."""


class IndexWalk:
    """Walks a sorted set of ids by time.

    Each step starts from the last row seen, not from a rank: whatever is added or removed on
    the way, a row that is there throughout is seen exactly once.

    Args:
        index: the sorted set's key.
        lowest, highest: inclusive bounds on the time, epoch ms; None is open.
        after: start behind this position.
    """

    def __init__(
        self,
        store: Store,
        index: str,
        *,
        newest_first: bool,
        lowest: int | None = None,
        highest: int | None = None,
        after: Position | None = None,
    ) -> None:
        self._store = store
        self._index = index
        self._newest_first = newest_first
        self._lowest = lowest
        self._highest = highest
        self._after = after
        self._ended = False

    async def step(self, count: int) -> list[Position]:
        """At least one and at most ``count`` further positions; none at the end.

        Raises:
            StoreError: the store failed.
        """
        # The last row seen is read again, and all that share its millisecond.
        asked = count if self._after is None else count + _SPARE
        while not self._ended:
            entries = await self._read(asked)
            fresh = [entry for entry in entries if self._is_ahead(entry)]
            self._ended = len(entries) < asked and len(fresh) <= count
            if fresh:
                self._after = fresh[:count][-1]
                return fresh[:count]
            asked *= 2
        return []

    def _is_ahead(self, entry: Position) -> bool:
        if self._after is None:
            return True
        return entry < self._after if self._newest_first else entry > self._after

    async def _read(self, count: int) -> list[Position]:
        low: int | str = "-inf" if self._lowest is None else self._lowest
        high: int | str = "+inf" if self._highest is None else self._highest
        if self._after is not None:
            # A cursor may have been made with other bounds: the narrower ones count.
            time = self._after[0]
            if self._newest_first:
                high = time if self._highest is None else min(time, self._highest)
            else:
                low = time if self._lowest is None else max(time, self._lowest)
        span = (high, low, "BYSCORE", "REV") if self._newest_first else (low, high, "BYSCORE")
        reply = await self._store.read_bulk(
            "ZRANGE", self._index, *span, "LIMIT", 0, count, "WITHSCORES"
        )
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [(int(float(score)), row.decode()) for row, score in pairs]


class LexWalk:
    """Walks a sorted set whose scores are all the same, in the order of its members' bytes.

    Each step starts from the last member seen, and costs what it finds.

    Args:
        index: the sorted set's key.
        group: what all the places have in common; the member is their id.
        spans: where to look, in ascending order and apart; everywhere by default.
        after: start behind this member.
    """

    def __init__(
        self,
        store: Store,
        index: str,
        *,
        group: str = "",
        spans: Sequence[Span] = (),
        after: str | None = None,
    ) -> None:
        self._store = store
        self._index = index
        self._group = group
        self._ahead = deque((low.encode(), high.encode()) for low, high in spans or [("", "")])
        self._after = None if after is None else after.encode()

    async def step(self, count: int) -> list[tuple[str, str]]:
        """At least one and at most ``count`` further places; none at the end.

        Raises:
            StoreError: the store failed.
        """
        while self._ahead:
            members = await self._read(*self._ahead[0], count)
            if members:
                self._after = members[-1]
            if len(members) < count:
                self._ahead.popleft()
            if members:
                return [(self._group, member.decode(errors="replace")) for member in members]
        return []

    async def _read(self, low: bytes, high: bytes, count: int) -> list[bytes]:
        start = b"[" + low
        if self._after is not None and self._after >= low:
            start = b"(" + self._after
        end = b"(" + high if high else b"+"
        found: list[bytes] = await self._store.read_bulk(
            "ZRANGE", self._index, start, end, "BYLEX", "LIMIT", 0, count
        )
        return found


class SetWalk:
    """Walks a set by what its members name, in ascending order. The set is read whole.

    Args:
        members: the set's key.
        place_of: the place that a member names.
        admits: whether a place is asked for.
        after: start behind this place.
    """

    def __init__(
        self,
        store: Store,
        members: str,
        *,
        place_of: Callable[[str], Place],
        admits: Callable[[Place], bool],
        after: Place | None = None,
    ) -> None:
        self._store = store
        self._members = members
        self._place_of = place_of
        self._admits = admits
        self._after = after
        self._places: Iterator[Place] | None = None

    async def step(self, count: int) -> list[Place]:
        """At least one and at most ``count`` further places; none at the end.

        Raises:
            StoreError: the store failed.
        """
        if self._places is None:
            members = await self._store.read_bulk("SMEMBERS", self._members)
            self._places = await self._in_order(members)
        return list(islice(self._places, count))

    async def _in_order(self, members: Sequence[bytes]) -> Iterator[Place]:
        place_of, admits, after = self._place_of, self._admits, self._after
        pieces = []
        for start in range(0, len(members), _PIECE):
            piece = []
            for member in members[start : start + _PIECE]:
                place = place_of(member.decode(errors="replace"))
                if after is not None and place <= after:
                    continue
                if admits(place):
                    piece.append(place)
            piece.sort()
            pieces.append(piece)
            await asyncio.sleep(0)
        return merge(*pieces)


class MergedWalk(Generic[Key]):
    """Several walks as one, in the order that all of them have.

    Args:
        walks: by what tells them apart.
        descending: their order.

    Attributes:
        sources: which walk each place of the last step comes from.
    """

    def __init__(self, walks: Mapping[Key, Walk], *, descending: bool) -> None:
        self.sources: dict[Place, Key] = {}
        self._walks = dict(walks)
        self._ahead: dict[Key, deque[Place]] = {key: deque() for key in walks}
        self._descending = descending

    async def step(self, count: int) -> list[Place]:
        """At least one and at most ``count`` further places; none at the end.

        Raises:
            StoreError: the store failed.
        """
        piece = max(count // max(len(self._walks), 1), min(count, _SPARE))
        await asyncio.gather(*(self._fetch(key, piece) for key in list(self._walks)))
        lasts = [places[-1] for places in self._ahead.values() if places]
        if not lasts:
            return []
        # Behind the last place that is known of a walk come some that are not known yet.
        until = max(lasts) if self._descending else min(lasts)
        ready = sorted(
            (
                (place, key)
                for key, places in self._ahead.items()
                for place in places
                if (place >= until if self._descending else place <= until)
            ),
            key=itemgetter(0),
            reverse=self._descending,
        )[:count]
        self.sources = dict(ready)
        for _, key in ready:
            self._ahead[key].popleft()
        return [place for place, _ in ready]

    async def _fetch(self, key: Key, piece: int) -> None:
        if self._ahead[key]:
            return
        places = await self._walks[key].step(piece)
        self._ahead[key].extend(places)
        if not places:
            del self._walks[key]
