"""What the checks share: bounded steps, and a second look at what seems wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.findings import ERROR, Finding
from cycles_server.store.scan import scan, set_members, sorted_set_members
from cycles_server.store.store import Store

Progress = Callable[[str, int], None]
"""Called with what is being read, and how much of it was."""
Judge = Callable[[str], Awaitable[Sequence[Finding]]]
"""Looks at what a name stands for, and says what is wrong with it."""

PAGE = 200
"""Records read in one step: a millisecond or two of Redis."""


def key_pages(store: Store, pattern: str) -> AsyncIterator[list[str]]:
    """Pages of the keys that match a pattern. Raises: StoreError."""
    # Each step waits for its reply, and what is found is looked at: that is pause enough.
    return pages(scan(store, pattern, pause_s=0))


async def pages(batches: AsyncIterator[list[str]]) -> AsyncIterator[list[str]]:
    """The same names, never more than a page of them at once."""
    page: list[str] = []
    async for batch in batches:
        page += batch
        while len(page) >= PAGE:
            yield page[:PAGE]
            page = page[PAGE:]
    if page:
        yield page


class Walk:
    """Has names judged, page by page.

    Attributes:
        done: how many names were judged, by stage.
    """

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store = store
        self._progress = progress
        self.done: Counter[str] = Counter()

    async def keys(
        self, stage: str, pattern: str, judge: Judge, *, but: str = ""
    ) -> AsyncIterator[Finding]:
        """What is wrong with what the keys that match a pattern hold.

        Args:
            but: keys that begin so are others.

        Raises:
            StoreError: the store failed.
        """
        async for page in key_pages(self._store, pattern):
            meant = [key for key in page if not (but and key.startswith(but))]
            async for finding in self._judged(stage, meant, judge):
                yield finding

    async def members(
        self, stage: str, name: str, judge: Judge, *, ordered: bool = False
    ) -> AsyncIterator[Finding]:
        """What is wrong with what the members of a set stand for, or with the set.

        Args:
            ordered: whether it is a sorted set.

        Raises:
            StoreError: the store failed.
        """
        walked = sorted_set_members if ordered else set_members
        try:
            async for page in pages(walked(self._store, name)):
                async for finding in self._judged(stage, page, judge):
                    yield finding
        except StoreCorrupt:
            yield Finding(ERROR, "MALFORMED_INDEX", name, f"no {'sorted ' * ordered}set")

    async def _judged(
        self, stage: str, names: Sequence[str], judge: Judge
    ) -> AsyncIterator[Finding]:
        """What two looks find alike: what changes meanwhile is not damage."""
        looks = await asyncio.gather(*(judge(name) for name in names))
        for name, found in zip(names, looks, strict=True):
            if found:
                before = {finding.code for finding in found}
                for finding in await judge(name):
                    if finding.code in before:
                        yield finding
        self.done[stage] += len(names)
        self._progress(stage, self.done[stage])
