"""The store as the rest of the server sees it: commands, scripts, and a walk over buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cycles_server.store.connection import SharedConnection
from cycles_server.store.keys import Keys
from cycles_server.store.link import Argument, Reply
from cycles_server.store.scripts import load_script

_T = TypeVar("_T")


class Store:
    """Access to Redis. Two connections: one for the calls that requests wait for, one for the
    bulk work (pages, sweeps) that must never stand in their way."""

    def __init__(self, url: str, *, keys: Keys, timeout_ms: int) -> None:
        self.keys = keys
        self._calls = SharedConnection(url, timeout_ms=timeout_ms, name="cycles-server")
        self._bulk = SharedConnection(url, timeout_ms=timeout_ms, name="cycles-server-bulk")

    def call(
        self,
        tenant: str,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        bulk: bool = False,
    ) -> asyncio.Future[Reply]:
        """Run one of the ledger's scripts for one tenant.

        ``tenant`` names the node that holds the keys; with a single Redis it is not needed,
        and it is asked for so that a cluster changes nothing at the callers.

        Raises (when awaited):
            StoreError: see :mod:`cycles_server.store.errors`.
        """
        connection = self._bulk if bulk else self._calls
        return connection.evaluate(load_script(script), keys, arguments)

    def read(self, *command: Argument) -> asyncio.Future[Reply]:
        """A single read; sent again by itself if the connection breaks before the answer."""
        return self._calls.command(*command, replay_safe=True)

    def read_bulk(self, *command: Argument) -> asyncio.Future[Reply]:
        """A read of bulk work, on the connection that no request waits for."""
        return self._bulk.command(*command, replay_safe=True)

    def write(self, *command: Argument) -> asyncio.Future[Reply]:
        """A single write outside the ledger (records of governance, index upkeep), on the bulk
        connection."""
        return self._bulk.command(*command)

    async def close(self) -> None:
        """Answer what is on its way, then hang up."""
        await self._calls.close()
        await self._bulk.close()


def run_on_store(
    url: str, keys: Keys, work: Callable[[Store], Awaitable[_T]], *, timeout_ms: int
) -> _T:
    """Do some work on a store that is opened for it alone, in an event loop of its own.

    Raises:
        StoreError: the store failed, and the work did not expect it.
    """

    async def run() -> _T:
        store = Store(url, keys=keys, timeout_ms=timeout_ms)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
