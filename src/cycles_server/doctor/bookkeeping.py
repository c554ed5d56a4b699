"""The ledger checked against itself: budgets, reservations and the indexes over them.

It reads in bounded steps beside a running server. The sums are exact all the same: a budget is
read together with the store's time, and the reservations afterwards; each says from when to when
it held its amount, so the holds at that one moment can be added up. What looks wrong is looked
at a second time before it is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from cycles_server.doctor.observe import Observation, observe
from cycles_server.doctor.records import (
    BUDGET_FIELDS,
    RESERVATION_FIELDS,
    Budget,
    Hold,
    ended_ms,
    read_budget,
    read_hold,
)
from cycles_server.doctor.walking import PAGE, Progress, key_pages, pages
from cycles_server.ledger.retention import KEPT_MS
from cycles_server.scopes import tenant_in
from cycles_server.store.clock import now_ms
from cycles_server.store.findings import ERROR, WARNING, Finding
from cycles_server.store.keys import BucketKeys
from cycles_server.store.scan import set_members, sorted_set_members
from cycles_server.store.store import Store


class Books:
    """The check of one bucket of tenants."""

    def __init__(self, store: Store, bucket: BucketKeys, progress: Progress) -> None:
        self._store = store
        self._bucket = bucket
        self._progress = progress
        self.counted = dict.fromkeys(("budgets", "reservations", "live", "indexed"), 0)

    async def check(self) -> AsyncIterator[Finding]:
        """Read everything; yields what is wrong.

        Raises:
            StoreError: the store failed.
        """
        for part in (
            self._check_budgets,
            self._check_lists_of_budgets,
            self._check_expiries,
            self._check_quarantine,
            self._check_indexes,
        ):
            async for finding in part():
                yield finding

    # -- budgets and what is held on them --------------------------------------------------------

    async def _check_budgets(self) -> AsyncIterator[Finding]:
        budgets: dict[str, Budget] = {}
        async for page in self._pages(self._bucket.budget_pattern()):
            budgets |= await self._read_budgets(page)
            self._progress("budgets", len(budgets))
        self.counted["budgets"] += len(budgets)
        async for finding in self._add_holds(budgets):
            yield finding
        suspects = [key for key, budget in budgets.items() if any(budget.findings())]
        if not suspects:
            return
        again: dict[str, Budget] = {}
        for start in range(0, len(suspects), PAGE):
            again |= await self._read_budgets(suspects[start : start + PAGE])
            self._progress("suspect budgets", len(again))
        async for _ in self._add_holds(again, second_look=True):
            pass  # the same as at the first look
        for key, budget in again.items():
            before = {finding.code for finding in budgets[key].findings()}
            for finding in budget.findings():
                if finding.code in before:
                    yield finding

    async def _read_budgets(self, keys: Sequence[str]) -> dict[str, Budget]:
        seen = await asyncio.gather(
            *(observe(self._store, key, fields=BUDGET_FIELDS) for key in keys)
        )
        return {
            key: read_budget(key, self._bucket.scope_and_unit(key)[0], one)
            for key, one in zip(keys, seen, strict=True)
            if one.is_damaged or any(one.fields.values())  # else it was deleted meanwhile
        }

    async def _add_holds(
        self, budgets: dict[str, Budget], *, second_look: bool = False
    ) -> AsyncIterator[Finding]:
        """Add every reservation to the budgets it held; yields what is wrong with them."""
        bucket = self._bucket
        earliest = min((budget.at_ms for budget in budgets.values()), default=0)
        met: set[str] = set()  # a scan may meet a key twice
        live_met = read = 0
        async for page in self._pages(bucket.reservation_pattern()):
            seen = await asyncio.gather(
                *(
                    observe(
                        self._store,
                        key,
                        fields=RESERVATION_FIELDS,
                        name=key.removeprefix(bucket.reservation_prefix),
                        indexes=(bucket.ttl, bucket.quarantine),
                    )
                    for key in page
                )
            )
            for key, one in zip(page, seen, strict=True):
                if one.is_damaged:
                    yield Finding(ERROR, "MALFORMED_RESERVATION", key, "not a hash")
                    continue
                if not any(one.fields.values()):
                    continue  # it went away meanwhile
                until = ended_ms(one.fields)
                if key in met or (until is not None and until < earliest):
                    continue  # it was over before anything was read
                met.add(key)
                live = one.fields["state"] == "ACTIVE"
                live_met += live
                due, quarantined = one.places
                hold = read_hold(one.fields)
                if isinstance(hold, Hold):
                    self._add(hold, budgets)
                elif quarantined is None:
                    yield Finding(ERROR, "MALFORMED_RESERVATION", key, hold)
                if live and due is None and quarantined is None:
                    why = f"ACTIVE but not in {bucket.ttl}: it will never lapse"
                    yield Finding(ERROR, "TTL_MISSING", key, why)
            read += len(page)
            self._progress("reservations, second look" if second_look else "reservations", read)
        if not second_look:
            self.counted["reservations"] += read
            self.counted["live"] += live_met

    def _add(self, hold: Hold, budgets: dict[str, Budget]) -> None:
        for scope in hold.scopes:
            budget = budgets.get(self._bucket.budget(scope, hold.unit))
            if budget is not None:
                budget.add(hold)

    async def _check_lists_of_budgets(self) -> AsyncIterator[Finding]:
        """Every budget stands in its tenant's set, and nothing else does."""
        bucket = self._bucket
        read = 0
        async for names in self._pages(bucket.budgets_pattern()):
            for name in names:
                async for page in pages(set_members(self._store, name)):
                    for key, one in await self._listed([(name, key) for key in page]):
                        if one.places[0] is not None and not one.exists:
                            why = f"names {key}: no such key"
                            yield Finding(WARNING, "BUDGET_MISSING", name, why)
                    read += len(page)
                    self._progress("lists of budgets", read)
        async for page in self._pages(bucket.budget_pattern()):
            owned = await asyncio.gather(
                *(observe(self._store, key, fields=("tenant_id",)) for key in page)
            )
            places = [
                (self._list_of(key, one.fields.get("tenant_id")), key)
                for key, one in zip(page, owned, strict=True)
                if not one.is_damaged  # reported as malformed
            ]
            listed = await self._listed(places)
            for (name, _), (key, one) in zip(places, listed, strict=True):
                if one.exists and one.places[0] is None:
                    why = f"not in {name}: balances do not show it"
                    yield Finding(WARNING, "BUDGET_UNLISTED", key, why)

    def _list_of(self, key: str, owner: str | None) -> str:
        """The set that a budget belongs into."""
        return self._bucket.budgets_of(owner or tenant_in(self._bucket.scope_and_unit(key)[0]))

    async def _listed(self, places: Sequence[tuple[str, str]]) -> list[tuple[str, Observation]]:
        """Of each set and key: the key, and its place in that set."""
        seen = await asyncio.gather(
            *(observe(self._store, key, name=key, indexes=(name,)) for name, key in places)
        )
        return [(key, one) for (_, key), one in zip(places, seen, strict=True)]

    # -- indexes over reservations ----------------------------------------------------------------

    async def _check_expiries(self) -> AsyncIterator[Finding]:
        ttl = self._bucket.ttl
        async for one, seen in self._members(ttl, "expiries"):
            state = _state(seen)
            if state != "ACTIVE":
                why = f"is {state}" if state else "has no record"
                yield Finding(ERROR, "TTL_ORPHAN", ttl, f"{one}: {why}")

    async def _check_quarantine(self) -> AsyncIterator[Finding]:
        async for one, seen in self._members(self._bucket.quarantine, "quarantine"):
            yield Finding(
                ERROR,
                "QUARANTINED",
                self._bucket.reservation(one),
                f"set aside by the sweeper, state {_state(seen) or 'unknown'}: its hold, if any, "
                "was not given back",
            )

    async def _check_indexes(self) -> AsyncIterator[Finding]:
        newest = await now_ms(self._store, bulk=True) - KEPT_MS
        async for names in self._pages(self._bucket.index_pattern()):
            for name in names:
                async for one, seen in self._members(name, "list index"):
                    self.counted["indexed"] += 1
                    # A record lives for 30 days after its end; an older entry waits to be pruned.
                    if not seen.exists and float(seen.places[0] or 0) > newest:
                        yield Finding(WARNING, "INDEX_ORPHAN", name, f"{one}: has no record")

    async def _members(self, name: str, stage: str) -> AsyncIterator[tuple[str, Observation]]:
        """Each id that a sorted set names, and its reservation at the same moment."""
        done = 0
        async for page in pages(sorted_set_members(self._store, name)):
            seen = await asyncio.gather(
                *(
                    observe(
                        self._store,
                        self._bucket.reservation(one),
                        fields=("state",),
                        name=one,
                        indexes=(name,),
                    )
                    for one in page
                )
            )
            for one, observed in zip(page, seen, strict=True):
                if observed.places[0] is not None:  # else it has gone from there meanwhile
                    yield one, observed
            done += len(page)
            self._progress(stage, done)

    def _pages(self, pattern: str) -> AsyncIterator[list[str]]:
        return key_pages(self._store, pattern)


def _state(seen: Observation) -> str | None:
    return "not a hash" if seen.is_damaged else seen.fields.get("state")
