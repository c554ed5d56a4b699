"""The ledger checked against itself: budgets, reservations and the indexes over them.

It reads in bounded steps beside a running server. The sums are exact all the same: a budget is
read together with the store's time, and the reservations afterwards; each says from when to when
it held its amount, so the holds at that one moment can be added up. What looks wrong is looked
at a second time before it is reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cycles_server.ledger.retention import KEPT_MS
from cycles_server.store.keys import BucketKeys, Keys, TenantKeys

ERROR, WARNING, ADVICE = "error", "warning", "advice"
"""Levels of findings; advice alone leaves a store healthy."""

Progress = Callable[[str, int], None]
"""Called with what is being read, and how much of it was."""

PAGE = 200
"""Records read in one step: a millisecond or two of Redis."""
_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_ESTIMATE = re.compile(r"[0-9]{1,19}")
_AMOUNTS = ("allocated", "remaining", "reserved", "spent", "debt", "overdraft_limit")
_BUDGET_FIELDS = ("tenant_id", "status", "created_at", *_AMOUNTS)
_OVER = ("COMMITTED", "RELEASED", "EXPIRED")
_ENDS = ("committed_at", "released_at", "expired_at")
_RESERVATION_FIELDS = (
    *("state", "tenant", "estimate_amount", "estimate_unit", "created_at"),
    *("affected_scopes", "budgeted_scopes", *_ENDS),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        level: ``error``, ``warning`` or ``advice``.
        code: its kind, e.g. ``HOLDS``.
        key: the Redis key or setting concerned.
        message: what is wrong with it, for people.
    """

    level: str
    code: str
    key: str
    message: str


@dataclass(slots=True)
class Budget:
    """A budget as it was at one moment, and the holds on it at that moment.

    Attributes:
        at_ms: the store's time when it was read.
        amounts: by field; empty if they cannot be read, then ``problem`` says why.
        held: the sum of the reservations that held it then.
        unsure: what may have been held besides: reservations that began or ended within that
            very millisecond, or are older than this budget.
    """

    key: str
    scope: str
    at_ms: int
    tenant: str = ""
    status: str = "ACTIVE"
    created_ms: int = 0
    amounts: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    held: int = 0
    unsure: int = 0

    def belongs_to(self, tenant: str) -> bool:
        """Whether a tenant's reservations count here; see lua/lib/budgets.lua."""
        return self.tenant == tenant if self.tenant else self.scope.startswith("tenant:")

    def findings(self) -> Iterator[Finding]:
        """What is wrong with it."""
        if self.problem:
            yield Finding(ERROR, "MALFORMED_BUDGET", self.key, self.problem)
            return
        amounts = self.amounts
        parts = ("remaining", "spent", "reserved", "debt")
        total = sum(amounts[part] for part in parts)
        if total != amounts["allocated"]:
            sides = " + ".join(f"{part} {amounts[part]}" for part in parts)
            yield Finding(
                ERROR,
                "INVARIANT",
                self.key,
                f"allocated {amounts['allocated']} is not {sides} = {total} "
                f"(off by {amounts['allocated'] - total})",
            )
        for name in ("reserved", "spent", "debt", "overdraft_limit"):
            if amounts[name] < 0:
                yield Finding(ERROR, "NEGATIVE", self.key, f"{name} is {amounts[name]}")
        reserved = amounts["reserved"]
        if not self.held <= reserved <= self.held + self.unsure:
            what = "CLOSED" if self.status == "CLOSED" else "live reservations hold"
            expected = "must hold nothing" if what == "CLOSED" else str(self.held)
            yield Finding(ERROR, "HOLDS", self.key, f"reserved is {reserved}, {what} {expected}")


@dataclass(frozen=True, slots=True)
class Hold:
    """What a reservation holds, from when to when (epoch ms; ``until`` None: still)."""

    tenant: str
    amount: int
    unit: str
    scopes: tuple[str, ...]
    since: int
    until: int | None


class Books:
    """The check of one bucket of tenants."""

    def __init__(self, client: Redis, keys: Keys, bucket: BucketKeys, progress: Progress) -> None:
        self._client = client
        self._keys = keys
        self._bucket = bucket
        self._progress = progress
        self._names = TenantKeys("", bucket.tag)
        self.counted = dict.fromkeys(("budgets", "reservations", "live", "indexed"), 0)

    def check(self) -> Iterator[Finding]:
        """Read everything; yields what is wrong."""
        yield from self._check_budgets()
        yield from self._check_lists_of_budgets()
        yield from self._check_expiries()
        yield from self._check_quarantine()
        yield from self._check_indexes()

    # -- budgets and what is held on them --------------------------------------------------------

    def _check_budgets(self) -> Iterator[Finding]:
        found = self._scan(f"{self._bucket.budget_prefix}*")
        budgets = self._read_budgets("budgets", found)
        self.counted["budgets"] += len(budgets)
        yield from self._add_holds(budgets)
        suspects = [key for key, budget in budgets.items() if any(budget.findings())]
        if not suspects:
            return
        again = self._read_budgets("suspect budgets", suspects)
        list(self._add_holds(again, second_look=True))  # its findings are those of the first
        for key, budget in again.items():
            before = {finding.code for finding in budgets[key].findings()}
            yield from (one for one in budget.findings() if one.code in before)

    def _read_budgets(self, stage: str, found: Iterable[str]) -> dict[str, Budget]:
        budgets: dict[str, Budget] = {}
        for page in _pages(found):
            clock, *rows = self._atomically(
                ("TIME",), *(("HMGET", key, *_BUDGET_FIELDS) for key in page)
            )
            at_ms = _ms(clock)
            for key, row in zip(page, rows, strict=True):
                if isinstance(row, ResponseError) or any(row):  # else it was deleted meanwhile
                    budgets[key] = self._budget(key, at_ms, row)
            self._progress(stage, len(budgets))
        return budgets

    def _budget(self, key: str, at_ms: int, row: list[str | None] | ResponseError) -> Budget:
        scope, _ = self._names.scope_and_unit(key)
        budget = Budget(key=key, scope=scope, at_ms=at_ms)
        if isinstance(row, ResponseError):
            budget.problem = "not a hash"
            return budget
        fields = dict(zip(_BUDGET_FIELDS, row, strict=True))
        budget.tenant = fields["tenant_id"] or ""
        budget.status = fields["status"] or "ACTIVE"
        budget.created_ms = _integer(fields["created_at"]) or 0
        for name in _AMOUNTS:
            missing = "" if name in ("allocated", "remaining") else "0"
            text = fields[name] or missing
            number = _integer(text)
            if number is None:
                budget.problem = f"{name} is {text!r}, not an int64" if text else f"no {name}"
                return budget
            budget.amounts[name] = number
        return budget

    def _add_holds(
        self, budgets: dict[str, Budget], *, second_look: bool = False
    ) -> Iterator[Finding]:
        """Add every reservation to the budgets it held; yields what is wrong with them."""
        earliest = min((budget.at_ms for budget in budgets.values()), default=0)
        seen: set[str] = set()  # SCAN may return a key twice
        live_seen = read = 0
        prefix = self._bucket.reservation_prefix
        for page in _pages(self._scan(f"{prefix}*")):
            ids = [key.removeprefix(prefix) for key in page]
            commands = (
                command
                for key, one in zip(page, ids, strict=True)
                for command in (
                    ("HMGET", key, *_RESERVATION_FIELDS),
                    ("ZSCORE", self._bucket.ttl, one),
                    ("ZSCORE", self._bucket.quarantine, one),
                )
            )
            answers = iter(self._atomically(*commands))
            for key in page:
                row, due, quarantined = next(answers), next(answers), next(answers)
                if isinstance(row, ResponseError):
                    yield Finding(ERROR, "MALFORMED_RESERVATION", key, "not a hash")
                    continue
                fields = dict(zip(_RESERVATION_FIELDS, row, strict=True))
                if not any(fields.values()):
                    continue  # it went away meanwhile
                state = fields["state"]
                live = state == "ACTIVE"
                until = _ended(fields) if state in _OVER else None
                if key in seen or (until is not None and until < earliest):
                    continue  # it was over before anything was read
                seen.add(key)
                live_seen += live
                hold = _hold(fields, until)
                if isinstance(hold, Hold):
                    self._add(hold, budgets)
                elif quarantined is None:
                    yield Finding(ERROR, "MALFORMED_RESERVATION", key, hold)
                if live and due is None and quarantined is None:
                    why = f"ACTIVE but not in {self._bucket.ttl}: it will never lapse"
                    yield Finding(ERROR, "TTL_MISSING", key, why)
            read += len(page)
            self._progress("reservations, second look" if second_look else "reservations", read)
        if not second_look:
            self.counted["reservations"] += read
            self.counted["live"] += live_seen

    def _add(self, hold: Hold, budgets: dict[str, Budget]) -> None:
        for scope in hold.scopes:
            budget = budgets.get(self._names.budget(scope, hold.unit))
            if budget is None or budget.status == "CLOSED" or not budget.belongs_to(hold.tenant):
                continue
            begun = hold.since <= budget.at_ms
            ended = hold.until is not None and hold.until < budget.at_ms
            if not begun or ended:
                continue
            same_moment = budget.at_ms in (hold.since, hold.until)
            if same_moment or hold.since < budget.created_ms:
                budget.unsure += hold.amount
            else:
                budget.held += hold.amount

    def _check_lists_of_budgets(self) -> Iterator[Finding]:
        """Every budget stands in its tenant's set, and nothing else does."""
        read = 0
        for name in self._scan(f"{self._names.budgets}*"):
            for page in _pages(self._client.sscan_iter(name, count=PAGE)):
                for key, listed, exists in self._listed([(name, key) for key in page]):
                    if listed and not exists:
                        yield Finding(WARNING, "BUDGET_MISSING", name, f"names {key}: no such key")
                read += len(page)
                self._progress("lists of budgets", read)
        for page in _pages(self._scan(f"{self._bucket.budget_prefix}*")):
            owners = self._atomically(*(("HGET", key, "tenant_id") for key in page))
            places = [
                (self._list_of(key, owner), key)
                for key, owner in zip(page, owners, strict=True)
                if not isinstance(owner, ResponseError)  # reported as malformed
            ]
            for (name, _), (key, listed, exists) in zip(places, self._listed(places), strict=True):
                if exists and not listed:
                    why = f"not in {name}: balances do not show it"
                    yield Finding(WARNING, "BUDGET_UNLISTED", key, why)

    def _list_of(self, key: str, owner: str | None) -> str:
        """The set that a budget belongs into."""
        scope, _ = self._names.scope_and_unit(key)
        if not owner and scope.startswith("tenant:"):
            owner = scope.partition("/")[0].partition(":")[2]
        return TenantKeys(owner or "", self._bucket.tag).budgets

    def _listed(self, places: list[tuple[str, str]]) -> Iterator[tuple[str, bool, bool]]:
        """Of each set and key: the key, whether the set names it, whether it exists."""
        commands = (
            command
            for name, key in places
            for command in (("SISMEMBER", name, key), ("EXISTS", key))
        )
        answers = iter(self._atomically(*commands))
        for _, key in places:
            yield key, bool(next(answers)), bool(next(answers))

    # -- indexes over reservations ----------------------------------------------------------------

    def _check_expiries(self) -> Iterator[Finding]:
        ttl = self._bucket.ttl
        for one, member, state in self._members(ttl, ("HGET", "state"), "expiries"):
            if member is None or state == "ACTIVE":
                continue
            if isinstance(state, ResponseError):
                state = "not a hash"
            yield Finding(
                ERROR, "TTL_ORPHAN", ttl, f"{one}: {f'is {state}' if state else 'has no record'}"
            )

    def _check_quarantine(self) -> Iterator[Finding]:
        name = self._bucket.quarantine
        for one, member, state in self._members(name, ("HGET", "state"), "quarantine"):
            if member is not None:
                yield Finding(
                    ERROR,
                    "QUARANTINED",
                    self._bucket.reservation(one),
                    f"set aside by the sweeper, state {state or 'unknown'}: its hold, if any, "
                    "was not given back",
                )

    def _check_indexes(self) -> Iterator[Finding]:
        newest = _ms(self._client.time()) - KEPT_MS
        for name in self._scan(TenantKeys("*", self._bucket.tag).index):
            for one, created, exists in self._members(name, ("EXISTS",), "list index"):
                self.counted["indexed"] += 1
                # A record outlives its reservation's end; an older entry waits to be pruned.
                if created is not None and not exists and float(created) > newest:
                    yield Finding(WARNING, "INDEX_ORPHAN", name, f"{one}: has no record")

    def _members(
        self, name: str, command: tuple[str, ...], stage: str
    ) -> Iterator[tuple[str, Any, Any]]:
        """Each member of a sorted set of ids, with its score (None: gone meanwhile) and what
        the command says of its reservation at the same moment."""
        verb, *rest = command
        done = 0
        for page in _pages(one for one, _ in self._client.zscan_iter(name, count=PAGE)):
            answers = iter(
                self._atomically(
                    *(
                        part
                        for one in page
                        for part in (
                            ("ZSCORE", name, one),
                            (verb, self._bucket.reservation(one), *rest),
                        )
                    )
                )
            )
            for one in page:
                yield one, next(answers), next(answers)
            done += len(page)
            self._progress(stage, done)

    # -- reading ----------------------------------------------------------------------------------

    def _scan(self, pattern: str) -> Iterator[str]:
        return self._client.scan_iter(match=pattern, count=1000)

    def _atomically(self, *commands: tuple[str, ...]) -> list[Any]:
        """The answers of commands that see one moment; an error reply stands for its own."""
        pipe: Any = self._client.pipeline(transaction=True)
        for command in commands:
            pipe.execute_command(*command)
        return list(pipe.execute(raise_on_error=False))


def _pages(items: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(items)
    while page := list(islice(iterator, PAGE)):
        yield page


def _ms(clock: Any) -> int:
    seconds, micros = clock
    return int(seconds) * 1000 + int(micros) // 1000


def _integer(text: str | None) -> int | None:
    if text is None or not _INTEGER.fullmatch(text):
        return None
    return number if (number := int(text)) in _INT64 else None


def _ended(fields: dict[str, str | None]) -> int:
    """When a reservation that is over ended; 0 if its record does not say."""
    return max(_integer(fields[name]) or 0 for name in _ENDS)


def _hold(fields: dict[str, str | None], until: int | None) -> Hold | str:
    """What a reservation holds or held, or why its record cannot be read."""
    if fields["state"] != "ACTIVE" and fields["state"] not in _OVER:
        return f"state is {fields['state']!r}"
    if not fields["tenant"]:
        return "no tenant"
    if not _ESTIMATE.fullmatch(fields["estimate_amount"] or ""):
        return f"estimate_amount is {fields['estimate_amount']!r}"
    if not fields["estimate_unit"]:
        return "no estimate_unit"
    try:
        scopes = json.loads(fields["budgeted_scopes"] or fields["affected_scopes"] or "")
    except ValueError:
        scopes = None
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        return "its scopes are not a JSON array of texts"
    return Hold(
        tenant=fields["tenant"],
        amount=int(fields["estimate_amount"] or 0),
        unit=fields["estimate_unit"],
        scopes=tuple(scopes),
        since=_integer(fields["created_at"]) or 0,
        until=until,
    )
