"""A budget's stored hash as the contract's BudgetLedger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cycles_server.auth.records import iso_instant
from cycles_server.jsontext import INT64_MAX, INT64_MIN
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.numbers import stored_integer

Body = dict[str, Any]
Row = Mapping[str, str]
"""A budget's fields as texts; other servers write absent ones as empty texts."""

FIELDS = (
    *("ledger_id", "tenant_id", "allocated", "remaining", "reserved", "spent", "debt"),
    *("overdraft_limit", "is_over_limit", "status", "commit_overage_policy", "rollover_policy"),
    *("period_start", "period_end", "created_at", "updated_at"),
)
"""What a BudgetLedger is made of; a record's metadata is nothing that it shows."""

STATUSES = ("ACTIVE", "FROZEN", "CLOSED")
_POLICIES = {
    "commit_overage_policy": ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT"),
    "rollover_policy": ("NONE", "CARRY_FORWARD", "CAP_AT_ALLOCATED"),
}
"""What the contract knows; another that a record has is left out of an answer."""


def fields_row(values: Sequence[bytes | None]) -> dict[str, str]:
    """The values of ``FIELDS`` by name, without those that are not there."""
    named = zip(FIELDS, values, strict=True)
    return {name: value.decode(errors="replace") for name, value in named if value is not None}


def amount_in(
    row: Row, scope: str, unit: str, field: str, default: str = "0", least: int = 0
) -> int:
    """One of a budget's amounts.

    Raises:
        StoreCorrupt: it is no int64, or less than it can be.
    """
    try:
        value = stored_integer(row.get(field) or default)
    except ValueError:
        raise StoreCorrupt(f"{scope} in {unit}: {field} is not an integer") from None
    if not least <= value <= INT64_MAX:
        raise StoreCorrupt(f"{scope} in {unit}: {field} is out of range")
    return value


def is_over_limit(row: Row, scope: str, unit: str) -> bool:
    """Whether it takes no reservation: by its flag, or by its debt where another server wrote the
    flag otherwise.

    Raises:
        StoreCorrupt: an amount cannot be read.
    """
    if row.get("is_over_limit") == "true":
        return True
    debt, limit = (amount_in(row, scope, unit, name) for name in ("debt", "overdraft_limit"))
    return debt > limit


def status_in(row: Row, scope: str, unit: str) -> str:
    """A budget's status.

    Raises:
        StoreCorrupt: it is none.
    """
    status = row.get("status") or "ACTIVE"
    if status not in STATUSES:
        raise StoreCorrupt(f"{scope} in {unit}: unknown status")
    return status


def ledger_body(row: Row, scope: str, unit: str) -> Body:
    """The contract's BudgetLedger.

    Raises:
        StoreCorrupt: an amount, time or status that cannot be read.
    """

    def amount(field: str, default: str = "0", least: int = 0) -> Body:
        return {"unit": unit, "amount": amount_in(row, scope, unit, field, default, least)}

    def instant(field: str) -> str:
        try:
            return iso_instant(stored_integer(row[field]))
        except (ValueError, OverflowError):
            raise StoreCorrupt(f"{scope} in {unit}: {field} is no time") from None

    body: Body = {
        "ledger_id": row.get("ledger_id", ""),
        "tenant_id": row.get("tenant_id", ""),
        "scope": scope,
        "unit": unit,
        "allocated": amount("allocated", default=""),
        "remaining": amount("remaining", default="", least=INT64_MIN),
        "reserved": amount("reserved"),
        "spent": amount("spent"),
        "debt": amount("debt"),
        "overdraft_limit": amount("overdraft_limit"),
        "is_over_limit": is_over_limit(row, scope, unit),
        "status": status_in(row, scope, unit),
    }
    for field, known in _POLICIES.items():
        if row.get(field) in known:
            body[field] = row[field]
    if not row.get("created_at"):
        # A required member: the beginning of time for a record that does not say.
        body["created_at"] = iso_instant(0)
    for field in ("period_start", "period_end", "created_at", "updated_at"):
        if row.get(field):
            body[field] = instant(field)
    return body
