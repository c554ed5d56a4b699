"""Leases: one process at a time does a piece of work, and a dead one is soon replaced."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from cycles_server.store.errors import StoreError
from cycles_server.store.store import Store

NAME = "lease"
"""The script; its KEYS and ARGV are :class:`Keys` and :class:`Arguments`."""


class Keys(NamedTuple):
    lease: str


class Arguments(NamedTuple):
    token: str
    ttl_ms: int


class Lease:
    """The lease of a piece of work in the store.

    Args:
        work: what it is for.
        ttl_ms: how long it outlives a holder that died.
        renew_ms: how often a holder renews it, below ``ttl_ms``.
    """

    def __init__(self, store: Store, work: str, *, ttl_ms: int, renew_ms: int) -> None:
        self._store = store
        self._key = store.keys.lease(work)
        self._token = uuid.uuid4().hex
        self._ttl_ms = ttl_ms
        self._renew_ms = renew_ms

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold the lease for the block, if nobody else has it; yields whether it is held.

        Losing it half-way does no harm: every step of such work is atomic and safe to repeat.
        """
        if not await self._ask(self._ttl_ms):
            yield False
            return
        renewal = asyncio.create_task(self._renew())
        try:
            yield True
        finally:
            renewal.cancel()
            await self._ask(0)

    async def _ask(self, ttl_ms: int) -> bool:
        """Whether this process has it, or had it, if ``ttl_ms`` is 0 and gives it up."""
        keys = Keys(lease=self._key)
        arguments = Arguments(token=self._token, ttl_ms=ttl_ms)
        return bool(await self._store.call("", NAME, keys, arguments, bulk=True))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_ms / 1000)
            try:
                await self._ask(self._ttl_ms)
            except StoreError:
                continue  # the work itself meets the same store and reports it
