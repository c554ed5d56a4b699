"""A walk over what sets hold, set after set, at the cost of what it shows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from cycles_server.paging.cursors import Place
from cycles_server.paging.twins import SMALL, align
from cycles_server.paging.walks import LexWalk, SetWalk, Span, Walk
from cycles_server.store.errors import StoreRefused
from cycles_server.store.keys import Listed
from cycles_server.store.store import Store


class MembersWalk:
    """Walks the members of sets; a place is the group that a set is of, and the member.

    Groups come in ascending order, and within each the members by their bytes. Small sets are
    read whole, many at a time; large ones along their twins.

    Args:
        listed: the names of a group's set and twin.
        groups: the first groups.
        more: a walk whose ids are the groups behind those.
        spans: where in a group's set to look, if it is large; everywhere by default.
        after: start behind this place, whose group is the first.
    """

    def __init__(
        self,
        store: Store,
        listed: Callable[[str], Listed],
        groups: Sequence[str],
        *,
        more: Walk | None = None,
        spans: Callable[[str], Sequence[Span]] = lambda _: (),
        after: Place | None = None,
    ) -> None:
        self._store = store
        self._listed = listed
        self._groups = deque(groups)
        self._more = more
        self._spans = spans
        self._after = after
        self._sized: deque[tuple[str, int]] = deque()
        self._read: deque[Place] = deque()
        self._large: Walk | None = None

    async def step(self, count: int) -> Sequence[Place]:
        """At least one and at most ``count`` further places; none at the end.

        Raises:
            StoreError: the store failed.
        """
        while True:
            if self._read:
                return [self._read.popleft() for _ in range(min(count, len(self._read)))]
            if self._large is not None:
                places = await self._large.step(count)
                if places:
                    return places
                self._large = None
            if not self._sized and not await self._count_members(count):
                return []
            if self._sized:
                await self._open(count)

    async def _count_members(self, most: int) -> bool:
        """The sizes of the next groups' sets; False where there is no further group."""
        if not self._groups and self._more is not None:
            self._groups.extend(group for _, group in await self._more.step(most))
        groups = [self._groups.popleft() for _ in range(min(most, len(self._groups)))]
        sizes = await asyncio.gather(
            *(self._store.read_bulk("SCARD", self._listed(group).members) for group in groups)
        )
        self._sized.extend(pair for pair in zip(groups, sizes, strict=True) if pair[1])
        return bool(groups)

    async def _open(self, count: int) -> None:
        """Begin the next set, if it is large; else read so many small ones as ``count`` needs."""
        if self._sized[0][1] > SMALL:
            self._large = await self._along_twin(self._sized.popleft()[0])
            return
        groups: list[str] = []
        expected = 0
        while self._sized and self._sized[0][1] <= SMALL and expected < count:
            group, size = self._sized.popleft()
            groups.append(group)
            expected += size
        sets = await asyncio.gather(
            *(self._store.read_bulk("SMEMBERS", self._listed(group).members) for group in groups)
        )
        for group, members in zip(groups, sets, strict=True):
            for member in sorted(members):
                place = (group, member.decode(errors="replace"))
                if self._after is None or place > self._after:
                    self._read.append(place)

    async def _along_twin(self, group: str) -> Walk:
        listed = self._listed(group)
        after = self._after if self._after is not None and self._after[0] == group else None
        try:
            await align(self._store, group, listed)
        except StoreRefused:
            # A full store, or a replica, is no reason to show nothing.
            return SetWalk(
                self._store,
                listed.members,
                place_of=lambda member: (group, member),
                admits=lambda _: True,
                after=after,
            )
        return LexWalk(
            self._store,
            listed.twin,
            group=group,
            spans=self._spans(group),
            after=None if after is None else after[1],
        )
