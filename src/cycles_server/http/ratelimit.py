"""The brake on public operations: requests of one socket address in one minute."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.http.problems import Problem
from cycles_server.store.clock import now_ms
from cycles_server.store.store import Store

WINDOW_S = 60
_KEPT_MS = 2 * WINDOW_S * 1000

NAME = "rate_limit"
"""The script; its KEYS and ARGV are :class:`Keys` and :class:`Arguments`."""


class Keys(NamedTuple):
    counter: str


class Arguments(NamedTuple):
    kept_ms: int


async def check_rate(store: Store, address: str, per_minute: int) -> None:
    """Count one request, over all workers and by the store's clock.

    Raises:
        Problem: 429 with the seconds until the next window, for a request above the limit.
        StoreError: the store failed.
    """
    seconds = await now_ms(store) // 1000
    window = seconds // WINDOW_S
    keys = Keys(counter=store.keys.rate_limit(address, window))
    count = await store.call("", NAME, keys, Arguments(kept_ms=_KEPT_MS))
    if count <= per_minute:
        return
    reset = (window + 1) * WINDOW_S
    raise Problem(
        "LIMIT_EXCEEDED",
        f"More than {per_minute} requests a minute from one address",
        headers=(
            ("retry-after", str(reset - seconds)),
            ("x-ratelimit-reset", str(reset)),
            ("x-ratelimit-remaining", "0"),
        ),
    )
