"""When the background jobs of a worker run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from cycles_server.maintenance.index_repair import prune_index, repair_index
from cycles_server.maintenance.lease import Lease
from cycles_server.maintenance.sweeper import Sweeper
from cycles_server.services import Services
from cycles_server.store.errors import StoreError

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs each job at its interval, under a lease that only one process holds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        settings = self._services.settings
        store = self._services.store
        sweeper = Sweeper(store, self._services.metrics)

        async def index() -> int:
            return await repair_index(store) + await prune_index(store)

        self._schedule("expiry", sweeper.sweep, settings.cycles_expiry_interval_ms)
        self._schedule(
            "reservation-index",
            index,
            settings.reservation_created_at_index_repair_interval_ms,
        )

    async def stop(self) -> None:
        """Let no job go on; each step of a job is whole, so none is half done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _schedule(self, job: str, work: Callable[[], Awaitable[int]], interval_ms: int) -> None:
        settings = self._services.settings
        lease = Lease(
            self._services.store,
            job,
            ttl_ms=settings.cycles_maintenance_lease_ttl_ms,
            renew_ms=settings.cycles_maintenance_renew_interval_ms,
        )
        self._tasks.append(asyncio.create_task(self._repeat(job, lease, work, interval_ms)))

    async def _repeat(
        self, job: str, lease: Lease, work: Callable[[], Awaitable[int]], interval_ms: int
    ) -> None:
        while True:
            started = time.perf_counter()
            try:
                async with lease.held() as held:
                    done = await work() if held else 0
                outcome = "success" if held else "skipped_locked"
                if done:
                    logger.info("%s: %d done", job, done)
            except StoreError as error:
                outcome = "failed"
                logger.warning("%s failed: %s", job, error)
            except Exception:
                outcome = "failed"
                logger.exception("%s failed", job)
            self._services.metrics.maintenance(job, outcome, time.perf_counter() - started)
            await asyncio.sleep(interval_ms / 1000)
