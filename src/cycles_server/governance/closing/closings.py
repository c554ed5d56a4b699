"""Who sees to it that a close goes through: the request that closes, and after it a job.

How long a close may take is bounded by this job: one that was broken off goes on at the next start
of an admin server, or after ``TENANT_CLOSE_RECONCILER_INTERVAL_MS`` at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from cycles_server.governance.closing.cascade import Converged, converge
from cycles_server.governance.tenants import CLOSED
from cycles_server.jsontext import stored_members
from cycles_server.paging.walks import STEP
from cycles_server.store.errors import StoreError
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)


class Closings:
    """The closes that run in this process: one for each tenant at a time.

    Args:
        audit_days: how long the entries of what a close ends are kept; 0 for ever.
    """

    def __init__(self, store: Store, *, audit_days: int) -> None:
        self._store = store
        self._audit_days = audit_days
        self._running: dict[str, asyncio.Task[Converged]] = {}

    async def settle(self, tenant_id: str, *, within_s: float) -> Converged | None:
        """What a close has ended; None if it takes longer and goes on in the background.

        Raises:
            StoreError: the store failed; the job goes on with it.
        """
        task = self._begin(tenant_id)
        done, _ = await asyncio.wait({task}, timeout=within_s)
        return task.result() if done else None

    async def reconcile(self, most: int) -> int:
        """Go on with closes that were broken off, and with those that nobody here began; at most
        ``most`` tenants. Returns how many."""
        pending = await self._broken_off()
        if len(pending) < most:
            pending += await self._closed_elsewhere(most - len(pending), set(pending))
        for tenant_id in pending[:most]:
            with contextlib.suppress(StoreError):  # said where it ends; the next tenant's turn
                await self._begin(tenant_id)
        return len(pending[:most])

    def _begin(self, tenant_id: str) -> asyncio.Task[Converged]:
        task = self._running.get(tenant_id)
        if task is None:
            work = converge(self._store, tenant_id, audit_days=self._audit_days)
            task = asyncio.create_task(work)
            self._running[tenant_id] = task
            task.add_done_callback(lambda ended: self._end(tenant_id, ended))
        return task

    def _end(self, tenant_id: str, task: asyncio.Task[Converged]) -> None:
        del self._running[tenant_id]
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "a close did not go through: %s", task.exception(), extra={"tenant": tenant_id}
            )

    async def _broken_off(self) -> list[str]:
        found = []
        for bucket in self._store.keys.buckets():
            found += await self._store.read_bulk("HKEYS", bucket.closings)
        return sorted(one.decode(errors="replace") for one in found)

    async def _closed_elsewhere(self, most: int, known: set[str]) -> list[str]:
        """Closed tenants that no close here has gone through: another server's, or older ones."""
        found: list[str] = []
        cursor = b"0"
        while len(found) < most:
            cursor, ids = await self._store.read_bulk(
                "SSCAN", self._store.keys.tenants, cursor, "COUNT", STEP
            )
            for one in ids:
                tenant_id = one.decode(errors="replace")
                if tenant_id not in known and await self._is_left(tenant_id):
                    found.append(tenant_id)
            if cursor == b"0":
                break
        return found

    async def _is_left(self, tenant_id: str) -> bool:
        names = self._store.keys.tenant(tenant_id)
        record, through = await asyncio.gather(
            self._store.read_bulk("GET", names.record),
            self._store.read_bulk("SISMEMBER", names.closed, tenant_id),
        )
        if through or not record:
            return False
        try:
            return stored_members(record).get("status") == CLOSED
        except ValueError:
            return False
