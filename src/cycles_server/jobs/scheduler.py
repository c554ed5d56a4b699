"""When the background jobs of a worker run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from cycles_server.jobs.timetable import Pause
from cycles_server.monitoring.metrics import Metrics
from cycles_server.store.errors import StoreError
from cycles_server.store.lease import Lease
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[int]]
"""A job: does what there is to do and tells how much that was."""


@dataclass(frozen=True, slots=True)
class Job:
    """A background job.

    Attributes:
        name: of its lease and in its metrics.
        pause: how long to wait for the next run; None if it never runs.
    """

    name: str
    work: Work
    pause: Pause | None


class Scheduler:
    """Runs each job at its times, under a lease that only one process holds."""

    def __init__(self, store: Store, metrics: Metrics, *, lease_ttl_ms: int, renew_ms: int) -> None:
        self._store = store
        self._metrics = metrics
        self._lease_ttl_ms = lease_ttl_ms
        self._renew_ms = renew_ms
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.pause is not None:
                self._tasks.append(asyncio.create_task(self._repeat(job, job.pause)))

    async def stop(self) -> None:
        """Let no job go on; each step of a job is whole, so none is half done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, job: Job, pause: Pause) -> None:
        lease = Lease(self._store, job.name, ttl_ms=self._lease_ttl_ms, renew_ms=self._renew_ms)
        await asyncio.sleep(pause.first_s)
        while True:
            started = time.perf_counter()
            outcome = "failed"
            try:
                async with lease.held() as held:
                    done = await job.work() if held else 0
                outcome = "success" if held else "skipped_locked"
                if done:
                    logger.info("%s: %d done", job.name, done)
            except StoreError as error:
                logger.warning("%s failed: %s", job.name, error)
            except Exception:
                logger.exception("%s failed", job.name)
            self._metrics.maintenance(job.name, outcome, time.perf_counter() - started)
            await asyncio.sleep(pause.next_s(outcome != "failed"))
