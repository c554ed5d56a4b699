"""A store clock that stands still until a test moves it.

The scripts ask Redis for the time. Here that one call reads a list in the store instead, so that
a test can go to a millisecond and stay there; everything else in them is as it is shipped. The
module is also the program that serves with such scripts::

    python -m support.clock --host 127.0.0.1 --port 7878
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cycles_server.jobs.sweeper import Sweeper
from cycles_server.monitoring.metrics import LedgerMetrics
from cycles_server.store import scripts, store
from cycles_server.store.keys import Keys
from cycles_server.store.link import Argument, Reply
from cycles_server.store.scripts import Script
from cycles_server.store.store import Store
from support.server import CyclesServer

CLOCK = "test:clock"
_ASKED = b"redis.call('TIME')"
_TOLD = f"redis.call('LRANGE', '{CLOCK}', 0, 1)".encode()

_load = scripts.load_script


@cache
def load_script(name: str) -> Script:
    """A script as it is shipped, but for where it gets the time from."""
    source = _load(name).source.replace(_ASKED, _TOLD)
    digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return Script(name, source, digest)


class Clock:
    """Sets the time that the scripts see."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def set(self, now_ms: int) -> None:
        pipe = self._redis.pipeline()
        pipe.delete(CLOCK)
        # Microseconds that a millisecond must not be rounded up for.
        pipe.rpush(CLOCK, now_ms // 1000, now_ms % 1000 * 1000 + 999)
        pipe.execute()


class ClockedServer(CyclesServer):
    """The server with scripts that follow the settable clock."""

    def __init__(self, redis_url: str, log: Path, **settings: str) -> None:
        path = {"PYTHONPATH": str(Path(__file__).parent.parent)}
        super().__init__(redis_url, log, settings={**path, **settings})

    def start(self, *, wait: bool = True) -> None:
        self._command = [
            "support.clock" if part == "cycles_server" else part for part in self._command
        ]
        super().start(wait=wait)


class _ClockedStore(Store):
    def call(
        self,
        tenant: str,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        bulk: bool = False,
    ) -> asyncio.Future[Reply]:
        return self._bulk.evaluate(load_script(script), keys, arguments)

    def read_bulk(self, *command: Argument) -> asyncio.Future[Reply]:
        if command == ("TIME",):
            command = ("LRANGE", CLOCK, 0, 1)
        return super().read_bulk(*command)


def sweep(redis_url: str) -> int:
    """One round of the expiry sweeper, by the settable clock; returns how many expired."""

    async def run() -> int:
        one = _ClockedStore(redis_url, keys=Keys(), timeout_ms=5000)
        try:
            return await Sweeper(one, LedgerMetrics()).sweep()
        finally:
            await one.close()

    return asyncio.run(run())


if __name__ == "__main__":
    from cycles_server.cli.serve import serve

    store.load_script = load_script  # type: ignore[attr-defined]
    serve(prog_name="python -m support.clock")
