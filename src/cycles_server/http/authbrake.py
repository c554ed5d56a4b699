"""The brake on failed authentications: those of one socket address in a minute."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply
from cycles_server.store.store import Store

WINDOW_S = 60

NAME = "auth_failure"
"""The script; its KEYS and ARGV are :class:`Keys` and :class:`Arguments`."""


class Keys(NamedTuple):
    counters: str


class Arguments(NamedTuple):
    address: str
    most_sources: int
    window_ms: int


class Failures(NamedTuple):
    """How many there were in the current window, and when it ends."""

    number: int
    left_ms: int


def read(answer: Reply) -> Failures:
    """The answer by name."""
    return Failures(*answer)


class AuthBrake:
    """Counts failures over all workers.

    Args:
        per_minute: failures of one address that are let pass.
        most_sources: addresses that are counted by themselves; the others are counted together.
    """

    def __init__(self, store: Store, *, per_minute: int, most_sources: int) -> None:
        self._store = store
        self._per_minute = per_minute
        self._most_sources = most_sources

    async def failed(self, address: str) -> int | None:
        """Count one failure.

        Returns:
            None while there are not too many; else the seconds after which they count anew.

        Raises:
            StoreError: the store failed.
        """
        keys = Keys(counters=self._store.keys.auth_failures())
        arguments = Arguments(address, self._most_sources, WINDOW_S * 1000)
        failures = read(await self._store.call("", NAME, keys, arguments))
        if failures.number <= self._per_minute:
            return None
        return -(-max(failures.left_ms, 1) // 1000)
