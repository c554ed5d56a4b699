"""The expiry sweeper: lapsed holds go back to their budgets.

It works in short scripts, one tenant's batch at a time, on a connection of its own, so that
requests never wait for more than one batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from cycles_server.ledger.scripts import expire
from cycles_server.ledger.scripts.expire import EXPIRED, GONE, WAITING
from cycles_server.monitoring.metrics import LedgerMetrics
from cycles_server.store.answers import Refused
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt, StoreError, StoreFault
from cycles_server.store.keys import BucketKeys
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

PAGE = 1500
"""Lapsed reservations looked up at a time."""
BATCH = 50
"""Reservations of one tenant in one script; lua/expire.lua allows for 64."""

TOGETHER = 100
"""Reservations in scripts that are sent together; Redis runs those one behind the other."""


class Sweeper:
    """Expires what is past its expiry and grace; sets aside what cannot be understood."""

    def __init__(self, store: Store, metrics: LedgerMetrics) -> None:
        self._store = store
        self._metrics = metrics
        # What could not be settled in this sweep and in the one before: told once.
        self._stuck: set[str] = set()
        self._told: set[str] = set()

    async def sweep(self) -> int:
        """Expire everything that has lapsed by now; returns how many reservations that were."""
        now = await now_ms(self._store, bulk=True)
        self._told, self._stuck = self._stuck, set()
        expired = 0
        for bucket in self._store.keys.buckets():
            expired += await self._sweep_bucket(bucket, now)
        return expired

    async def _sweep_bucket(self, bucket: BucketKeys, now: int) -> int:
        expired = 0
        # Rows in their grace, and rows that could not be settled, stay in the index; the
        # sweep pages past them.
        passed = 0
        while True:
            rows = await self._store.read_bulk(
                "ZRANGEBYSCORE", bucket.ttl, "-inf", now, "LIMIT", passed, PAGE
            )
            if not rows:
                return expired
            readable = list(filter(None, map(_readable, rows)))
            passed += len(rows) - len(readable)
            groups = await self._by_tenant(bucket, readable)
            for together in _rounds(groups):
                rounds = await asyncio.gather(
                    *(self._expire(bucket, tenant, ids) for tenant, ids in together)
                )
                for (tenant, _), answers in zip(together, rounds, strict=True):
                    self._count(tenant, answers)
                    expired += answers[EXPIRED]
                    passed += answers[WAITING]

    async def _by_tenant(self, bucket: BucketKeys, ids: Sequence[str]) -> dict[str, list[str]]:
        tenants = await asyncio.gather(
            *(self._store.read_bulk("HGET", bucket.reservation(one), "tenant") for one in ids),
            return_exceptions=True,
        )
        groups: dict[str, list[str]] = defaultdict(list)
        for reservation_id, tenant in zip(ids, tenants, strict=True):
            if isinstance(tenant, StoreCorrupt):
                tenant = None  # not a hash at all: the script will say so, for it alone
            elif isinstance(tenant, BaseException):
                raise tenant
            # No tenant has an unreadable name; the script will find that it is another's.
            groups[tenant.decode(errors="replace") if tenant else ""].append(reservation_id)
        return groups

    async def _expire(self, bucket: BucketKeys, tenant: str, ids: Sequence[str]) -> Counter[str]:
        try:
            keys = expire.Keys(expiries=bucket.ttl, quarantine=bucket.quarantine)
            arguments = expire.Arguments(tenant=tenant, budget_prefix=bucket.budget_prefix)
            answer = expire.read(
                await self._store.call(
                    tenant,
                    expire.NAME,
                    [*keys, *(bucket.reservation(one) for one in ids)],
                    [*arguments, *ids],
                    bulk=True,
                )
            )
            if isinstance(answer, Refused):
                raise StoreCorrupt(answer.code)
        except (StoreCorrupt, StoreFault) as error:
            if len(ids) == 1:
                self._tell(tenant, ids[0], error)
                return Counter({WAITING: 1})
            # One record that the script cannot settle must not hold up the others of its batch.
            total: Counter[str] = Counter()
            for reservation_id in ids:
                total += await self._expire(bucket, tenant, [reservation_id])
            return total
        return Counter(answer.outcomes)

    def _tell(self, tenant: str, reservation_id: str, error: StoreError) -> None:
        self._stuck.add(reservation_id)
        if reservation_id not in self._told:
            logger.error(
                "a lapsed reservation cannot be settled: %s",
                error,
                extra={"tenant": tenant, "reservation_id": reservation_id},
            )

    def _count(self, tenant: str, answers: Counter[str]) -> None:
        for answer, number in answers.items():
            if answer == EXPIRED:
                self._metrics.expired(tenant, number)
            elif answer not in (WAITING, GONE):
                logger.error(
                    "%d reservation records set aside: %s", number, answer, extra={"tenant": tenant}
                )
                for _ in range(number):
                    self._metrics.quarantined(tenant, answer)


def _readable(row: bytes) -> str | None:
    """The id in a row of the index; None if it can be nobody's."""
    try:
        return row.decode()
    except UnicodeDecodeError:
        logger.error("an unreadable id waits for its expiry: %r", row)
        return None


def _rounds(groups: Mapping[str, Sequence[str]]) -> Iterator[list[tuple[str, Sequence[str]]]]:
    """Batches of one tenant each, as many at a time as requests will not feel."""
    together: list[tuple[str, Sequence[str]]] = []
    size = 0
    for tenant, ids in groups.items():
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            if size + len(batch) > TOGETHER:
                yield together
                together, size = [], 0
            together.append((tenant, batch))
            size += len(batch)
    if together:
        yield together
