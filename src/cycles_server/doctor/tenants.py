"""Tenants: their records, the set that names them, and what their closing has left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from cycles_server.doctor.observe import Observation, observe
from cycles_server.doctor.walking import Judge, Walk
from cycles_server.governance.tenants import ACTIVE, CLOSED, SUSPENDED
from cycles_server.jsontext import stored_members
from cycles_server.store.findings import ERROR, WARNING, Finding
from cycles_server.store.keys import BucketKeys, TenantKeys
from cycles_server.store.store import Store

_STATUSES = (ACTIVE, SUSPENDED, CLOSED)


class Tenants:
    """The check of all tenants."""

    def __init__(self, store: Store, walk: Walk) -> None:
        self._store = store
        self._walk = walk
        self._closed: set[str] = set()

    async def check(self) -> AsyncIterator[Finding]:
        """Read every record; yields what is wrong.

        Raises:
            StoreError: the store failed.
        """
        keys = self._store.keys
        for bucket in keys.buckets():
            pattern = bucket.tenant_pattern()
            async for finding in self._walk.keys("tenants", pattern, self._record_in(bucket)):
                yield finding
        async for finding in self._walk.members("list of tenants", keys.tenants, self._judge_named):
            yield finding
        for bucket in keys.buckets():
            async for finding in self._check_closings(bucket):
                yield finding
        for tenant in sorted(self._closed):
            names = keys.tenant(tenant)
            judge = self._budget_of(names)
            async for finding in self._walk.members("closed budgets", names.budgets, judge):
                yield finding

    def has_ended(self, tenant: str) -> bool:
        """Whether all that a tenant owns must have ended: it is CLOSED, and no close at work."""
        return tenant in self._closed

    async def is_known(self, tenant: str) -> bool:
        """Whether it has a record. Raises: StoreError."""
        return (await observe(self._store, self._store.keys.tenant(tenant).record)).exists

    def _record_in(self, bucket: BucketKeys) -> Judge:
        async def judge(key: str) -> list[Finding]:
            tenant = bucket.tenant_in(key)
            seen, listed = await asyncio.gather(
                observe(self._store, key),
                self._store.read_bulk("SISMEMBER", self._store.keys.tenants, tenant),
            )
            if not seen.exists:
                return []
            found = []
            record = record_in(seen)
            problem = record if isinstance(record, str) else _problem(record, tenant)
            if problem:
                found.append(Finding(ERROR, "MALFORMED_TENANT", key, problem))
            elif isinstance(record, dict) and record["status"] == CLOSED:
                self._closed.add(tenant)
            if not listed:
                why = f"not in {self._store.keys.tenants}: lists do not show it"
                found.append(Finding(WARNING, "TENANT_UNLISTED", key, why))
            return found

        return judge

    async def _judge_named(self, tenant: str) -> list[Finding]:
        keys = self._store.keys
        if await self.is_known(tenant):
            return []
        if not await self._store.read_bulk("SISMEMBER", keys.tenants, tenant):
            return []
        why = f"names {tenant}: no such record"
        return [Finding(WARNING, "TENANT_MISSING", keys.tenants, why)]

    async def _check_closings(self, bucket: BucketKeys) -> AsyncIterator[Finding]:
        for stored in await self._store.read_bulk("HKEYS", bucket.closings):
            tenant = stored.decode(errors="backslashreplace")
            # Whatever it still owns is this one finding.
            self._closed.discard(tenant)
            why = f"the close of {tenant} is not through: an admin server goes on with it"
            yield Finding(WARNING, "CLOSE_PENDING", bucket.closings, why)

    def _budget_of(self, names: TenantKeys) -> Judge:
        async def judge(key: str) -> list[Finding]:
            seen = await observe(self._store, key, fields=("tenant_id", "status", "reserved"))
            fields = seen.fields
            if not fields or fields["tenant_id"] not in (None, "", names.tenant):
                return []
            status, reserved = fields["status"] or ACTIVE, fields["reserved"] or "0"
            if status == CLOSED or not any(fields.values()):
                return []  # what a CLOSED one holds, the books tell
            why = f"{status} with {reserved} reserved, and its tenant {names.tenant} is CLOSED"
            return [Finding(ERROR, "BUDGET_OPEN", key, why)]

        return judge


def record_in(seen: Observation) -> dict[str, Any] | str:
    """The members of a JSON record, or why it has none."""
    if seen.text is None:
        return "not a string"
    try:
        return stored_members(seen.text.encode())
    except ValueError as error:
        return f"cannot be read: {error}"


def _problem(record: dict[str, Any], tenant: str) -> str:
    if record.get("tenant_id") != tenant:
        return f"tenant_id is {record.get('tenant_id')!r}"
    if record.get("status") not in _STATUSES:
        return f"status is {record.get('status')!r}"
    return ""
