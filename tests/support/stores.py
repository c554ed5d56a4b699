"""The server's own functions on a store, called from a test that has no event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cycles_server.store.keys import Keys
from cycles_server.store.store import Store, run_on_store

_T = TypeVar("_T")

TIMEOUT_MS = 10_000


def on_store(url: str, work: Callable[[Store], Awaitable[_T]], keys: Keys | None = None) -> _T:
    """Do some work on the store at a URL."""
    return run_on_store(url, keys or Keys(), work, timeout_ms=TIMEOUT_MS)


class Functions:
    """Calls functions whose first argument is the store, each on connections of its own."""

    def __init__(self, url: str, keys: Keys | None = None) -> None:
        self.url = url
        self.keys = keys or Keys()

    def __call__(self, function: Callable[..., Awaitable[_T]], *arguments: Any, **named: Any) -> _T:
        return on_store(self.url, lambda store: function(store, *arguments, **named), self.keys)
