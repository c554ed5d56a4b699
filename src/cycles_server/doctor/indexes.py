"""Indexes of governance: audit entries by time, and the order that is kept of large sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from cycles_server.doctor.observe import observe
from cycles_server.doctor.walking import Judge, Walk, key_pages
from cycles_server.store.clock import DAY_MS
from cycles_server.store.findings import WARNING, Finding
from cycles_server.store.keys import Listed
from cycles_server.store.store import Store


class AuditIndexes:
    """The check of the indexes of audit entries.

    Args:
        retentions: for how many days entries of each kind are kept; 0 for ever. Beyond the
            shortest an entry may have lapsed, and its place waits to be dropped.
    """

    def __init__(self, store: Store, walk: Walk, retentions: Sequence[int]) -> None:
        self._store = store
        self._walk = walk
        limited = [days for days in retentions if days]
        self._kept_ms = min(limited) * DAY_MS if limited else None

    async def check(self) -> AsyncIterator[Finding]:
        """Read every index; yields what is wrong.

        Raises:
            StoreError: the store failed.
        """
        async for names in key_pages(self._store, self._store.keys.audit_index_pattern()):
            for name in names:
                judge = self._entry_in(name)
                async for finding in self._walk.members("audit", name, judge, ordered=True):
                    yield finding

    def _entry_in(self, index: str) -> Judge:
        names = self._store.keys.bucket_of_audit(index)

        async def judge(log_id: str) -> list[Finding]:
            key = names.audit_entry(log_id)
            seen = await observe(self._store, key, name=log_id, indexes=(index,))
            at = seen.places[0]
            if seen.exists or at is None:
                return []
            if self._kept_ms is not None and float(at) + self._kept_ms <= seen.at_ms:
                return []
            return [Finding(WARNING, "AUDIT_ORPHAN", index, f"{log_id}: has no entry")]

        return judge


class Twins:
    """The check of the twins of large sets (``paging/twins.py``)."""

    def __init__(self, store: Store, walk: Walk) -> None:
        self._store = store
        self._walk = walk

    async def check(self) -> AsyncIterator[Finding]:
        """Compare each twin with its set; yields one finding for each that differs.

        Raises:
            StoreError: the store failed.
        """
        keys = self._store.keys
        tenants = keys.listed_tenants
        async for finding in self._compare(tenants):
            yield finding
        async for twins in key_pages(self._store, keys.twin_pattern()):
            for twin in twins:
                if twin != tenants.twin:  # a pattern with tags does not find it
                    async for finding in self._compare(keys.listed_by_twin(twin)):
                        yield finding

    async def _compare(self, listed: Listed) -> AsyncIterator[Finding]:
        if not (await observe(self._store, listed.twin)).exists:
            return
        judge = self._member_of(listed)
        first, more = None, 0
        for name, ordered in ((listed.members, False), (listed.twin, True)):
            async for finding in self._walk.members("kept orders", name, judge, ordered=ordered):
                if first is None:
                    first = finding
                else:
                    more += 1
        if first is not None:
            yield replace(first, message=f"{first.message} ({more} more)") if more else first

    def _member_of(self, listed: Listed) -> Judge:
        async def judge(member: str) -> list[Finding]:
            seen = await observe(self._store, listed.members, name=member, indexes=listed)
            in_set, in_twin = (place is not None for place in seen.places)
            if in_set == in_twin:
                return []
            where = listed.members if in_set else listed.twin
            why = f"{member} is only in {where}: lists go wrong until an admin server puts it right"
            return [Finding(WARNING, "TWIN", listed.twin, why)]

        return judge
