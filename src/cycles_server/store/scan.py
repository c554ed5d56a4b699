"""Walking over keys and their members in bounded steps, leaving room for requests between them.

Whoever is there from the beginning to the end of a walk is met, perhaps more than once. A name that
is not UTF-8 is nobody's: it comes escaped, and leads nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cycles_server.store.store import Store

COUNT = 500
PAUSE_S = 0.002
"""Between two steps, so that a long scan leaves room for requests."""


async def scan(store: Store, pattern: str, *, pause_s: float = PAUSE_S) -> AsyncIterator[list[str]]:
    """Batches of the keys that match a pattern.

    Raises:
        StoreError: the store failed.
    """
    cursor = b"0"
    while True:
        cursor, keys = await store.read_bulk("SCAN", cursor, "MATCH", pattern, "COUNT", COUNT)
        if keys:
            yield [_text(key) for key in keys]
        if cursor == b"0":
            return
        await asyncio.sleep(pause_s)


async def set_members(store: Store, key: str) -> AsyncIterator[list[str]]:
    """Batches of the members of a set. Raises: StoreError, also for a key that is no set."""
    async for members in _members(store, "SSCAN", key):
        yield members


async def sorted_set_members(store: Store, key: str) -> AsyncIterator[list[str]]:
    """The same of a sorted set, without their scores."""
    async for members in _members(store, "ZSCAN", key):
        yield members[::2]


async def _members(store: Store, command: str, key: str) -> AsyncIterator[list[str]]:
    cursor = b"0"
    while True:
        cursor, items = await store.read_bulk(command, key, cursor, "COUNT", COUNT)
        if items:
            yield [_text(item) for item in items]
        if cursor == b"0":
            return


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
