"""The Redis that is measured: the store of ``cycles-server up``, filled and emptied at will."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from redis import Redis

from benchmarks.tenant import GRACE_MS, LEASE_MS, UNIT, Tenant, provision, scopes_of
from cycles_server.embedded.store import EmbeddedRedis
from cycles_server.store.keys import Keys
from cycles_server.store.scripts import load_script
from cycles_server.store.store import Store as ServerStore
from cycles_server.store.store import run_on_store

_CHUNK = 1000
_AT_ONCE = 100
"""Tenants that are made at the same time."""
_TIMEOUT_MS = 30_000

_T = TypeVar("_T")


class Store:
    """A Redis of its own, with its append-only file on, and the tenants in it."""

    def __init__(self, redis: EmbeddedRedis, folder: Path) -> None:
        self.url = redis.url
        self.folder = folder
        self.client: Redis = Redis.from_url(redis.url)
        self.pid: int = self.client.info("server")["process_id"]
        self.version: str = self.client.info("server")["redis_version"]
        self.keys = Keys()
        self.tenant = self._run(lambda store: provision(store, "benchmark"))
        self._kept: dict[bytes, bytes] = {}
        self._reserve = load_script("reserve")
        self.client.script_load(self._reserve.source.decode())
        self.keep()

    # -- contents ----------------------------------------------------------------------------

    def keep(self) -> None:
        """What is there now is what :meth:`reset` goes back to."""
        self._kept = {key: self.client.dump(key) for key in self.client.scan_iter(count=1000)}

    def reset(self) -> None:
        """Empty the store but for what is kept, and its append-only file too."""
        self.client.flushall()
        for key, value in self._kept.items():
            self.client.restore(key, 0, value)
        self._wait_for_rewrite()
        self.client.bgrewriteaof()
        self._wait_for_rewrite()

    def add_tenant(self, name: str, *, with_key: bool = False) -> Tenant:
        """One more tenant. Making a key takes a quarter of a second."""
        tenant = self._run(lambda store: provision(store, name, with_key=with_key))
        self.keep()
        return tenant

    def add_reservations(
        self,
        tenant: Tenant,
        count: int,
        *,
        lease_ms: int = LEASE_MS,
        grace_ms: int = GRACE_MS,
        lapse_at_ms: int = 0,
    ) -> None:
        """Make reservations by the server's own script, many calls at a time.

        Args:
            lapse_at_ms: end all leases at this time (of the store's clock) instead.
        """
        for done in range(0, count, _CHUNK):
            if lapse_at_ms:
                lease_ms = lapse_at_ms - self.now_ms()
            pipeline = self.client.pipeline(transaction=False)
            for _ in range(min(_CHUNK, count - done)):
                keys, arguments = tenant.reserve_call(
                    str(uuid.uuid4()), lease_ms=lease_ms, grace_ms=grace_ms
                )
                pipeline.evalsha(self._reserve.sha.decode(), len(keys), *keys, *arguments)
            for answer in pipeline.execute():
                if answer[0] != b"OK":
                    raise RuntimeError(f"the script refused a reservation: {answer}")

    def add_bystanders(self, count: int) -> None:
        """Other tenants, each with a record and three budgets."""

        async def add(store: ServerStore) -> None:
            for first in range(0, count, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, count))
                names = [f"bystander-{number}" for number in numbers]
                await asyncio.gather(*(provision(store, name, with_key=False) for name in names))

        self._run(add)

    def _run(self, work: Callable[[ServerStore], Awaitable[_T]]) -> _T:
        """Do something with the server's own functions."""
        return run_on_store(self.url, self.keys, work, timeout_ms=_TIMEOUT_MS)

    def newest(self, tenant: Tenant, count: int) -> list[str]:
        """Ids, the newest first."""
        return [row.decode() for row in self.client.zrevrange(tenant.names.index, 0, count - 1)]

    def held(self, tenant: Tenant) -> int:
        """What a tenant's three budgets hold together."""
        budgets = [tenant.names.budget(scope, UNIT) for scope in scopes_of(tenant.name)]
        return sum(int(self.client.hget(budget, "reserved") or 0) for budget in budgets)

    def call_empty_script(self, count: int) -> None:
        """Call a script that does nothing, with all that a reserve brings along."""
        sha = self.client.script_load("#!lua\nreturn {'OK'}")
        keys, arguments = self.tenant.reserve_call(str(uuid.uuid4()))
        for _ in range(0, count, _CHUNK):
            pipeline = self.client.pipeline(transaction=False)
            for _ in range(_CHUNK):
                pipeline.evalsha(sha, len(keys), *keys, *arguments)
            pipeline.execute()

    # -- figures -----------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The store's clock."""
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def used_memory(self) -> int:
        """Bytes."""
        used: int = self.client.info("memory")["used_memory"]
        return used

    def restart_statistics(self) -> None:
        self.client.config_resetstat()

    def command_micros(self) -> float:
        """Microseconds in commands other than our own since :meth:`restart_statistics`."""
        statistics = self.client.info("commandstats")
        ours = ("cmdstat_info", "cmdstat_config|resetstat")
        return float(sum(row["usec"] for name, row in statistics.items() if name not in ours))

    def script_micros(self) -> float:
        """Microseconds for each EVALSHA since :meth:`restart_statistics`."""
        return float(self.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])

    # -- settings ----------------------------------------------------------------------------

    def hold_rewrites(self) -> None:
        """No rewrite of the append-only file by itself: one in a run of seconds would be
        either half of it or none."""
        self.client.config_set("auto-aof-rewrite-percentage", 0)

    @contextlib.contextmanager
    def fsync_always(self) -> Iterator[None]:
        self.client.config_set("appendfsync", "always")
        try:
            yield
        finally:
            self.client.config_set("appendfsync", "everysec")

    def _wait_for_rewrite(self) -> None:
        while True:
            told = self.client.info("persistence")
            if not (told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"]):
                return
            time.sleep(0.01)


@contextlib.contextmanager
def opened_store() -> Iterator[Store]:
    """A store in a folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="cycles-benchmarks-") as folder:
        path = Path(folder)
        with EmbeddedRedis(path / "redis", fsync="everysec") as redis:
            store = Store(redis, path)
            try:
                yield store
            finally:
                store.client.close()
