"""When the background jobs of a worker run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from cycles_server.jobs.audit_retention import prune_audit
from cycles_server.jobs.index_repair import prune_index, repair_index
from cycles_server.jobs.lease import Lease
from cycles_server.jobs.sweeper import Sweeper
from cycles_server.jobs.timetable import NEVER, Pause, at, every
from cycles_server.planes.services import Services
from cycles_server.store.errors import StoreError

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[int]]
"""A job: does what there is to do and tells how much that was."""


class Scheduler:
    """Runs each job at its times, under a lease that only one process holds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        settings = self._services.settings
        store = self._services.store
        sweeper = Sweeper(store, self._services.metrics)
        self._run("expiry", sweeper.sweep, every(settings.cycles_expiry_interval_ms))
        self._run(
            "reservation-index-repair",
            partial(repair_index, store),
            every(
                settings.reservation_created_at_index_repair_interval_ms,
                after_failure_ms=settings.reservation_created_at_index_failure_backoff_ms,
            ),
        )
        self._run_at(
            "reservation-index-prune",
            partial(prune_index, store),
            settings.reservation_created_at_index_sweep_cron,
        )
        self._run_at(
            "audit-prune",
            partial(prune_audit, store, settings.audit_retention_days),
            settings.audit_sweep_cron,
        )

    async def stop(self) -> None:
        """Let no job go on; each step of a job is whole, so none is half done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, job: str, work: Work, pause: Pause, first_after_s: float = 0) -> None:
        settings = self._services.settings
        lease = Lease(
            self._services.store,
            job,
            ttl_ms=settings.cycles_maintenance_lease_ttl_ms,
            renew_ms=settings.cycles_maintenance_renew_interval_ms,
        )
        repeated = self._repeat(job, lease, work, pause, first_after_s)
        self._tasks.append(asyncio.create_task(repeated))

    def _run_at(self, job: str, work: Work, cron: str) -> None:
        if cron != NEVER:
            pause = at(cron)
            self._run(job, work, pause, first_after_s=pause(True))

    async def _repeat(
        self, job: str, lease: Lease, work: Work, pause: Pause, first_after_s: float
    ) -> None:
        await asyncio.sleep(first_after_s)
        while True:
            started = time.perf_counter()
            outcome = "failed"
            try:
                async with lease.held() as held:
                    done = await work() if held else 0
                outcome = "success" if held else "skipped_locked"
                if done:
                    logger.info("%s: %d done", job, done)
            except StoreError as error:
                logger.warning("%s failed: %s", job, error)
            except Exception:
                logger.exception("%s failed", job)
            self._services.metrics.maintenance(job, outcome, time.perf_counter() - started)
            await asyncio.sleep(pause(outcome != "failed"))
