"""The overview of a whole deployment: exact counts, and the worst cases of each kind.

Everything is looked at, in steps that neither hold the store nor the loop; an answer is shared by
all who ask within some seconds, so that open dashboards cost no more than one.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cycles_server.auth.records import iso_instant
from cycles_server.governance.ledgers import STATUSES as BUDGET_STATUSES
from cycles_server.governance.ledgers import amount_in, is_over_limit
from cycles_server.governance.tenants import ACTIVE, CLOSED, SUSPENDED
from cycles_server.jsontext import INT64_MIN, stored_members
from cycles_server.paging.walks import STEP, IndexWalk
from cycles_server.scopes import UNITS, counts_for
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.link import Argument
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Body = dict[str, Any]

WINDOW_S = 3600
"""How far back events are counted."""
_KEPT_S = 5.0
_WORST = 10
_FIELDS = (
    "tenant_id",
    "status",
    "is_over_limit",
    "allocated",
    "remaining",
    "debt",
    "overdraft_limit",
)
_EVENT = (
    "event_id",
    "event_type",
    "category",
    "timestamp",
    "tenant_id",
    "scope",
    "actor",
    "source",
    "data",
    "correlation_id",
    "request_id",
    "trace_id",
    "metadata",
)
"""An event's members; of these the ones that every event has:"""
_EVERY_EVENT = ("event_id", "event_type", "category", "timestamp", "tenant_id", "source")
_DENIED, _EXPIRED = "reservation.denied", "reservation.expired"


class Overview:
    """Makes the overview, once for all who ask at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._making: asyncio.Task[tuple[Body, float]] | None = None
        self._made = float("-inf")

    async def body(self) -> tuple[Body, float]:
        """AdminOverviewResponse, and how long it took to make, in ms.

        Raises:
            StoreError: the store failed.
        """
        fresh = time.monotonic() - self._made < _KEPT_S
        task = self._making
        if task is None or (task.done() and not (fresh and task.exception() is None)):
            task = self._making = asyncio.create_task(self._make())
        # One who hangs up must not take the answer away from the others.
        return await asyncio.shield(task)

    async def _make(self) -> tuple[Body, float]:
        started = time.monotonic()
        now = await now_ms(self._store, bulk=True)
        census = Census()
        async for tenants in self._tenants():
            await self._count_tenants(tenants, census)
        webhooks = await self._webhooks()
        events = await self._events(now)
        self._made = time.monotonic()
        body = {
            "as_of": iso_instant(now),
            "event_window_seconds": WINDOW_S,
            **census.body(),
            **webhooks,
            **events,
        }
        return body, (self._made - started) * 1000

    async def _tenants(self) -> AsyncIterator[list[str]]:
        seen: set[bytes] = set()
        async for ids in self._members(self._store.keys.tenants):
            fresh = [one for one in ids if one not in seen]
            seen.update(fresh)
            if fresh:
                yield [one.decode(errors="replace") for one in fresh]

    async def _members(self, key: str) -> AsyncIterator[Sequence[bytes]]:
        """A set in pieces; a member may come twice."""
        cursor: Argument = 0
        while True:
            cursor, ids = await self._store.read_bulk("SSCAN", key, cursor, "COUNT", STEP)
            yield ids
            if cursor == b"0":
                return

    async def _count_tenants(self, tenants: Sequence[str], census: Census) -> None:
        names = [self._store.keys.tenant(one) for one in tenants]
        records = await self._records([one.record for one in names])
        for one, record in zip(names, records, strict=True):
            if record is not None:
                census.tenants[record.get("status")] += 1
            budgets = await self._store.read_bulk("SMEMBERS", one.budgets)
            keys = sorted(key.decode(errors="replace") for key in budgets)
            for start in range(0, len(keys), STEP):
                await self._count_budgets(one, keys[start : start + STEP], census)

    async def _count_budgets(self, names: TenantKeys, keys: Sequence[str], census: Census) -> None:
        rows = await asyncio.gather(
            *(self._store.read_bulk("HMGET", key, *_FIELDS) for key in keys),
            return_exceptions=True,
        )
        for key, row in zip(keys, rows, strict=True):
            if isinstance(row, StoreCorrupt):
                logger.error("budget left out of the overview: %s", row)
            elif isinstance(row, BaseException):
                raise row
            else:
                scope, unit = names.scope_and_unit(key)
                texts = [(value or b"").decode(errors="replace") for value in row]
                census.add(names.tenant, scope, unit, dict(zip(_FIELDS, texts, strict=True)))

    async def _records(self, keys: Sequence[str]) -> list[Body | None]:
        """JSON records; None for one that is not there or cannot be read, which is logged."""
        replies = await asyncio.gather(
            *(self._store.read_bulk("GET", key) for key in keys), return_exceptions=True
        )
        records: list[Body | None] = []
        for key, reply in zip(keys, replies, strict=True):
            try:
                if isinstance(reply, BaseException):
                    raise reply
                records.append(stored_members(reply) if reply else None)
            except (StoreCorrupt, ValueError) as error:
                logger.error("%s left out of the overview: %s", key, error)
                records.append(None)
        return records

    # -- webhooks and events: stored by those who deliver them ---------------------------------

    async def _webhooks(self) -> Body:
        counts: Counter[str] = Counter()
        failing: list[tuple[int, str, Body]] = []
        seen: set[bytes] = set()
        async for ids in self._members(self._store.keys.all_webhooks):
            fresh = [one for one in ids if one not in seen]
            seen.update(fresh)
            keys = [self._webhook_key(one.decode(errors="replace")) for one in fresh]
            for record in await self._records(keys):
                if record is None:
                    continue
                counts["total"] += 1
                counts[str(record.get("status"))] += 1
                failures = record.get("consecutive_failures")
                if isinstance(failures, int) and failures > 0:
                    counts["failing"] += 1
                    failing.append((failures, *_failing(record, failures)))
                    failing = heapq.nlargest(_WORST, failing, key=lambda one: one[:2])
        return {
            "webhook_counts": {
                "total": counts["total"],
                "active": counts["ACTIVE"],
                "disabled": counts["DISABLED"],
                "with_failures": counts["failing"],
            },
            "failing_webhooks": [body for _, _, body in failing],
        }

    def _webhook_key(self, subscription_id: str) -> str:
        likeliest, *_ = self._store.keys.buckets_of_id(subscription_id)
        return likeliest.webhook(subscription_id)

    async def _events(self, now: int) -> Body:
        total = 0
        by_category: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        newest: dict[str, list[tuple[int, str, Body]]] = {_DENIED: [], _EXPIRED: []}
        for bucket in self._store.keys.buckets():
            walk = IndexWalk(
                self._store,
                bucket.events_index,
                newest_first=True,
                lowest=now - WINDOW_S * 1000,
                highest=now,
            )
            while positions := await walk.step(STEP):
                records = await self._records([bucket.event_record(one) for _, one in positions])
                for (at, event_id), record in zip(positions, records, strict=True):
                    if record is None:
                        continue
                    total += 1
                    by_category[str(record.get("category"))] += 1
                    kind = record.get("event_type")
                    if kind == _DENIED:
                        reasons[str((record.get("data") or {}).get("reason_code", ""))] += 1
                    if kind in newest and all(record.get(name) for name in _EVERY_EVENT):
                        newest[kind].append((at, event_id, _event(record)))
        del reasons[""]
        shown = {
            kind: [event for _, _, event in heapq.nlargest(_WORST, events, key=lambda e: e[:2])]
            for kind, events in newest.items()
        }
        body: Body = {
            "event_counts": {"total_recent": total, "by_category": dict(by_category)},
            "recent_denials": shown[_DENIED],
            "recent_expiries": shown[_EXPIRED],
        }
        if reasons:
            body["recent_denials_by_reason"] = dict(reasons)
        return body


@dataclass(slots=True)
class Census:
    """Tenants and budgets, counted."""

    tenants: Counter[Any] = field(default_factory=Counter)
    budgets: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    over_limit: list[tuple[int, str, Body]] = field(default_factory=list)
    in_debt: list[tuple[int, str, Body]] = field(default_factory=list)

    def add(self, tenant: str, scope: str, unit: str, row: dict[str, str]) -> None:
        """Count a budget; one that is gone or another tenant's is none."""
        if not (row["allocated"] or row["remaining"]) or unit not in UNITS:
            return
        if not counts_for(tenant, row["tenant_id"], scope):
            return
        self.budgets["total"] += 1
        self.budgets[row["status"] or ACTIVE] += 1
        self.units[unit] += 1
        try:
            amounts = {
                name: amount_in(row, scope, unit, name, least=INT64_MIN) for name in _FIELDS[3:]
            }
            over = is_over_limit(row, scope, unit)
        except StoreCorrupt:
            logger.error("amounts of %s in %s left out of the overview", scope, unit)
            self.budgets["over_limit"] += row["is_over_limit"] == "true"
            return
        self.budgets["over_limit"] += over
        debt = amounts["debt"]
        named = {"scope": scope, "unit": unit}
        if over:
            shown = {name: amounts[name] for name in ("allocated", "remaining", "debt")}
            self.over_limit = _worst(self.over_limit, debt, {**named, **shown})
        if debt > 0:
            self.budgets["with_debt"] += 1
            shown = {name: amounts[name] for name in ("debt", "overdraft_limit")}
            self.in_debt = _worst(self.in_debt, debt, {**named, **shown})

    def body(self) -> Body:
        """The members of the answer that are about tenants and budgets."""
        statuses = (ACTIVE, SUSPENDED, CLOSED)
        return {
            "tenant_counts": {
                "total": sum(self.tenants[status] for status in statuses),
                **{status.lower(): self.tenants[status] for status in statuses},
            },
            "budget_counts": {
                "total": self.budgets["total"],
                **{status.lower(): self.budgets[status] for status in BUDGET_STATUSES},
                "over_limit": self.budgets["over_limit"],
                "with_debt": self.budgets["with_debt"],
                "by_unit": dict(self.units),
            },
            "over_limit_scopes": [body for _, _, body in self.over_limit],
            "debt_scopes": [body for _, _, body in self.in_debt],
        }


def _worst(
    known: list[tuple[int, str, Body]], measure: int, body: Body
) -> list[tuple[int, str, Body]]:
    """The ten largest; of equals the first by scope and unit."""
    name = f"{body['scope']}:{body['unit']}"
    return sorted([*known, (measure, name, body)], key=lambda one: (-one[0], one[1]))[:_WORST]


def _failing(record: Body, failures: int) -> tuple[str, Body]:
    name = str(record.get("subscription_id", ""))
    body = {
        "subscription_id": name,
        "url": str(record.get("url", "")),
        "consecutive_failures": failures,
        "last_failure_at": record.get("last_failure_at"),
    }
    return name, {member: value for member, value in body.items() if value is not None}


def _event(record: Body) -> Body:
    event = {name: record[name] for name in _EVENT if record.get(name) is not None}
    if isinstance(event.get("actor"), dict):
        event["actor"] = {k: v for k, v in event["actor"].items() if v is not None}
    return event
