"""Budgets: made, and their allocation set, each in one step.

Amounts are int64 in the budget's unit; ``USD_MICROCENTS`` are 10^-8 dollars.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cycles_server.governance.scripts import create_budget as create
from cycles_server.governance.scripts import set_budget as reset
from cycles_server.jsontext import INT64_MAX
from cycles_server.refusal import Refusal, forbidden, invalid
from cycles_server.scopes import UNITS, counts_for, read_scope
from cycles_server.store.store import Store

OVERAGE_POLICIES = ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT")


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """A budget as it stands after :func:`create_budget` or :func:`set_budget`.

    Attributes:
        created: False for one that was there before.
        replaced: the allocation that it had before another was set, None if none was.
    """

    scope: str
    unit: str
    allocated: int
    remaining: int
    created: bool
    replaced: int | None = None


async def create_budget(
    store: Store,
    tenant_id: str,
    scope: str,
    unit: str,
    allocated: int,
    overdraft_limit: int = 0,
    *,
    overage_policy: str | None = None,
) -> BudgetEntry:
    """Make a budget with ``allocated`` to spend. One that exists keeps its money.

    Raises:
        Refusal: scope, unit or an amount is not allowed, or the budget that exists is another
            tenant's or cannot be read.
        StoreError: the store failed.
    """
    check_budget(tenant_id, scope, unit, allocated, overdraft_limit)
    if overage_policy is not None and overage_policy not in OVERAGE_POLICIES:
        raise invalid(
            f"overage policy {overage_policy!r}", f"must be one of {', '.join(OVERAGE_POLICIES)}"
        )
    names = store.keys.tenant(tenant_id)
    answer = create.read(
        await _call(
            store,
            tenant_id,
            create.NAME,
            create.Keys(budget_record=names.budget(scope, unit), tenant_budgets=names.budgets),
            create.Arguments(
                tenant=tenant_id,
                ledger_id=str(uuid.uuid4()),
                scope=scope,
                unit=unit,
                allocated=str(allocated),
                overdraft_limit=str(overdraft_limit),
                overage_policy=overage_policy or "",
            ),
        )
    )
    if isinstance(answer, create.Created):
        return BudgetEntry(scope, unit, allocated, allocated, created=True)
    owner, stored, remaining = answer
    if not counts_for(tenant_id, owner, scope):
        raise forbidden(f"the budget {scope} in {unit} belongs to tenant {owner or '?'}")
    try:
        return BudgetEntry(scope, unit, int(stored), int(remaining), created=False)
    except ValueError:
        raise Refusal(
            "INTERNAL_ERROR", f"the budget {scope} in {unit} exists and its amounts cannot be read"
        ) from None


_NOT_SET = {
    "NO_BUDGET": ("BUDGET_NOT_FOUND", "has just been deleted"),
    "BUDGET_FROZEN": ("BUDGET_FROZEN", "is FROZEN: unfreeze it first"),
    "BUDGET_CLOSED": ("BUDGET_CLOSED", "is CLOSED, and stays so"),
    "CORRUPT_BUDGET": (
        "INTERNAL_ERROR",
        "has amounts that cannot be read: `cycles-server doctor` names them",
    ),
    "OUT_OF_RANGE": (
        "INVALID_REQUEST",
        "holds and has spent more than can be counted against so little",
    ),
}
"""What the script answers: the contract's code, and what is said of the budget."""


async def set_budget(
    store: Store, tenant_id: str, scope: str, unit: str, allocated: int
) -> BudgetEntry:
    """Make a budget, or set the allocation of one that exists.

    As the protocol's RESET: what is reserved, spent and owed stays, what remains is computed anew
    and may be negative, and the budget is over its limit if its debt is.

    Raises:
        Refusal: as :func:`create_budget`; or the budget is not ACTIVE, or what would remain is
            below int64.
        StoreError: the store failed.
    """
    entry = await create_budget(store, tenant_id, scope, unit, allocated)
    if entry.created:
        return entry
    answer = reset.read(
        await _call(
            store,
            tenant_id,
            reset.NAME,
            reset.Keys(budget_record=store.keys.tenant(tenant_id).budget(scope, unit)),
            reset.Arguments(tenant=tenant_id, scope=scope, allocated=str(allocated)),
        )
    )
    if isinstance(answer, reset.Refused):
        code, why = _NOT_SET.get(answer.code, ("INTERNAL_ERROR", f"cannot be set: {answer.code}"))
        raise Refusal(code, f"the budget {scope} in {unit} {why}")
    return BudgetEntry(scope, unit, allocated, answer.remaining, False, replaced=answer.before)


def check_budget(
    tenant_id: str, scope: str, unit: str, allocated: int, overdraft_limit: int = 0
) -> None:
    """Check what can be checked without the store.

    Raises:
        Refusal: 400, for a scope that no subject of this tenant has, a unit or an amount that is
            not allowed.
    """
    if read_scope(scope).get("tenant", tenant_id) != tenant_id:
        raise invalid("", f"scope {scope!r} is not one of tenant {tenant_id}")
    if unit not in UNITS:
        raise invalid(f"unit {unit!r}", f"must be one of {', '.join(UNITS)}")
    for what, amount in (("allocated", allocated), ("overdraft limit", overdraft_limit)):
        if not 0 <= amount <= INT64_MAX:
            raise invalid(f"{what} {amount}", f"must be from 0 to {INT64_MAX}")


async def _call(
    store: Store, tenant_id: str, script: str, keys: Sequence[str], arguments: Sequence[str]
) -> list[str]:
    answer = await store.call(tenant_id, script, keys, arguments)
    return [part.decode(errors="replace") for part in answer]
