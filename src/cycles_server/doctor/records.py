"""What the records of the ledger say, and what is wrong with a budget."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cycles_server.doctor.observe import Observation
from cycles_server.jsontext import INT64_MAX, INT64_MIN
from cycles_server.scopes import counts_for
from cycles_server.store.findings import ERROR, Finding

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_ESTIMATE = re.compile(r"[0-9]{1,19}")
_AMOUNTS = ("allocated", "remaining", "reserved", "spent", "debt", "overdraft_limit")
BUDGET_FIELDS = ("tenant_id", "status", "created_at", *_AMOUNTS)
_OVER = ("COMMITTED", "RELEASED", "EXPIRED")
_ENDS = ("committed_at", "released_at", "expired_at")
RESERVATION_FIELDS = (
    *("state", "tenant", "estimate_amount", "estimate_unit", "created_at"),
    *("affected_scopes", "budgeted_scopes", *_ENDS),
)


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

    def add(self, hold: Hold) -> None:
        """Count a reservation that names this budget."""
        if self.status == "CLOSED" or not counts_for(hold.tenant, self.tenant, self.scope):
            return
        begun = hold.since <= self.at_ms
        ended = hold.until is not None and hold.until < self.at_ms
        if not begun or ended:
            return
        same_moment = self.at_ms in (hold.since, hold.until)
        if same_moment or hold.since < self.created_ms:
            self.unsure += hold.amount
        else:
            self.held += hold.amount

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


def read_budget(key: str, scope: str, seen: Observation) -> Budget:
    """The budget that was seen under a key."""
    budget = Budget(key=key, scope=scope, at_ms=seen.at_ms)
    if seen.is_damaged:
        budget.problem = "not a hash"
        return budget
    fields = seen.fields
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


def ended_ms(fields: Mapping[str, str | None]) -> int | None:
    """When a reservation ended, 0 if its record does not say; None for one that is not over."""
    if fields["state"] not in _OVER:
        return None
    return max(_integer(fields[name]) or 0 for name in _ENDS)


def read_hold(fields: Mapping[str, str | None]) -> Hold | str:
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
        until=ended_ms(fields),
    )


def _integer(text: str | None) -> int | None:
    if text is None or not _INTEGER.fullmatch(text):
        return None
    return number if INT64_MIN <= (number := int(text)) <= INT64_MAX else None
