"""What a script's refusals mean to the caller."""

from __future__ import annotations

from collections.abc import Sequence

from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt

_MESSAGES = {
    "NOT_FOUND": "There is no such reservation",
    "FORBIDDEN": "This reservation belongs to another tenant",
    "TENANT_CLOSED": "The tenant is closed; nothing more can be reserved, charged or released",
    "IDEMPOTENCY_MISMATCH": "This idempotency key was used before with a different request",
    "RESERVATION_FINALIZED": "The reservation has been committed or released already",
    "RESERVATION_EXPIRED": "The reservation has expired",
    "MAX_EXTENSIONS_EXCEEDED": "The reservation has been extended as often as its tenant allows",
    "BUDGET_EXCEEDED": "Insufficient remaining budget",
    "BUDGET_FROZEN": "The budget is frozen",
    "BUDGET_CLOSED": "The budget is closed",
    "DEBT_OUTSTANDING": "The budget has debt that must be repaid first",
    "OVERDRAFT_LIMIT_EXCEEDED": "The budget is, or would go, beyond its overdraft limit",
}
_DAMAGED = ("CORRUPT_BUDGET", "CORRUPT_RESERVATION", "CORRUPT_AUDIT_INDEX")
_UNREADABLE_TENANT = "The tenant's record cannot be read, so nothing is allowed on its account"


def refusal(code: str, scope: str = "") -> Refusal:
    """The refusal that a script has worded as a code, and the scope that refuses, if one does.

    Raises:
        StoreCorrupt: the script found a damaged record.
    """
    if code in _DAMAGED:
        raise StoreCorrupt(code)
    if code == "TENANT_UNREADABLE":
        return Refusal("INTERNAL_ERROR", _UNREADABLE_TENANT)
    message = _MESSAGES[code]
    return Refusal(code, f"{message}: {scope}" if scope else message)


def unit_mismatch(scope: str, requested: str, expected: Sequence[str]) -> Refusal:
    """400 with the details that let a client correct itself (contract: Error semantics)."""
    return Refusal(
        "UNIT_MISMATCH",
        f"{scope} is kept in {', '.join(expected)}, not in {requested}",
        details={
            "scope": scope,
            "requested_unit": requested,
            "expected_units": list(expected),
        },
    )


def budget_not_found(scope: str) -> Refusal:
    return Refusal("NOT_FOUND", f"Budget not found for provided scope: {scope}")


def too_many_reserves(per_minute: str, wait_ms: int) -> Refusal:
    return Refusal(
        "LIMIT_EXCEEDED",
        f"The policy of this scope allows {per_minute} reservations a minute",
        retry_after_s=-(-wait_ms // 1000),
    )
