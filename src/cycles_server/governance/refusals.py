"""What the refusals of governance's scripts mean to the caller."""

from __future__ import annotations

from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt

_MESSAGES = {
    "TENANT_CLOSED": "Tenant {tenant} is closed; nothing that it owns can be changed any more",
    "BUDGET_NOT_FOUND": "Tenant {tenant} has no such budget",
    "BUDGET_FROZEN": "The budget is frozen: unfreeze it first",
    "BUDGET_CLOSED": "The budget is closed, and stays so",
    "BUDGET_EXCEEDED": "The budget has less left than is to be taken from it",
    "DUPLICATE_RESOURCE": "Tenant {tenant} has a policy of this name already",
    "IDEMPOTENCY_MISMATCH": "This idempotency key was used before with a different request",
    "NO_DEBT": "The budget owes nothing",  # of a row of a bulk action, which is then skipped
}
_INVALID = {
    "TENANT_NOT_FOUND": "There is no tenant {tenant}",
    "TENANT_SUSPENDED": "Tenant {tenant} is suspended; it must be active for that",
    "OUT_OF_RANGE": "An amount of the budget would be beyond what int64 can count",
}
"""What the contract has no code of its own for where it happens."""
_CONFLICTS = {
    "ALREADY_ACTIVE": "The budget is not frozen",
    "ALREADY_FROZEN": "The budget is frozen already",
}
"""The same, where the state and not the request is in the way."""
_UNREADABLE_TENANT = "The record of tenant {tenant} cannot be read, so nothing of it is changed"


def refusal(code: str, tenant: str, about: str = "") -> Refusal:
    """The refusal that a script has worded as a code.

    Args:
        about: what was to be changed, for the log.

    Raises:
        StoreCorrupt: the script found a damaged record.
    """
    if code.startswith("CORRUPT_"):
        raise StoreCorrupt(f"{code}: {about} of tenant {tenant}")
    if code == "TENANT_UNREADABLE":
        return Refusal("INTERNAL_ERROR", _UNREADABLE_TENANT.format(tenant=tenant))
    if code in _INVALID:
        return Refusal("INVALID_REQUEST", _INVALID[code].format(tenant=tenant))
    if code in _CONFLICTS:
        return Refusal("INVALID_REQUEST", _CONFLICTS[code], conflict=True)
    message = _MESSAGES[code]
    return Refusal(code, message.format(tenant=tenant))
