"""What is made where it is not there yet, straight in the store: for ``seed``.

Amounts are int64 in the budget's unit; ``USD_MICROCENTS`` are 10^-8 dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cycles_server.governance.api_keys import create_api_key
from cycles_server.governance.budgets import create_budget, find_budget, own_scope
from cycles_server.governance.call import Call
from cycles_server.governance.funding import fund_budget
from cycles_server.governance.tenants import ACTIVE, create_tenant, find_tenant
from cycles_server.jsontext import INT64_MAX
from cycles_server.refusal import Refusal, invalid
from cycles_server.scopes import UNITS
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """A budget as it stands after :func:`provide_budget`.

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


async def provide_tenant(store: Store, tenant_id: str, name: str | None = None) -> bool:
    """Make a tenant in force; one that exists is left alone, whatever its name. Returns whether
    it is new.

    Raises:
        Refusal: 400 for an id that is not allowed; or the tenant exists and is not ACTIVE.
        StoreError: the store failed.
    """
    try:
        body = {"tenant_id": tenant_id, "name": name or tenant_id}
        tenant, created = await create_tenant(store, Call(), body)
    except Refusal as refused:
        if refused.code != "DUPLICATE_RESOURCE":
            raise
        tenant, created = await find_tenant(store, tenant_id), False
    status = tenant.get("status")
    if status != ACTIVE:
        code = "TENANT_CLOSED" if status == "CLOSED" else "INVALID_REQUEST"
        raise Refusal(code, f"tenant {tenant_id} exists and is {status}")
    return created


async def provide_budget(
    store: Store, tenant_id: str, scope: str, unit: str, allocated: int, *, replace: bool = False
) -> BudgetEntry:
    """Make a budget with ``allocated`` to spend. One that exists keeps its money, unless told.

    Args:
        replace: set the allocation of one that exists, as the protocol's RESET: what is reserved,
            spent and owed stays, what remains is computed anew and may be negative.

    Raises:
        Refusal: as :func:`create_budget` and :func:`fund_budget`.
        StoreError: the store failed.
    """
    amount = {"unit": unit, "amount": allocated}
    scope = own_scope(tenant_id, scope)
    try:
        body = {"scope": scope, "unit": unit, "allocated": amount}
        made = await create_budget(store, Call(), tenant_id, body)
        return BudgetEntry(scope, unit, allocated, made["remaining"]["amount"], created=True)
    except Refusal as refused:
        if refused.code != "DUPLICATE_RESOURCE":
            raise
    if replace:
        body = {"operation": "RESET", "amount": amount}
        done = await fund_budget(store, Call(), tenant_id, scope, unit, body)
        return BudgetEntry(
            scope,
            unit,
            allocated,
            done["new_remaining"]["amount"],
            created=False,
            replaced=done["previous_allocated"]["amount"],
        )
    stands = await find_budget(store, scope, unit, tenant_id)
    return BudgetEntry(
        scope, unit, stands["allocated"]["amount"], stands["remaining"]["amount"], created=False
    )


async def provide_key(
    store: Store, tenant_id: str, permissions: Sequence[str] | None = None
) -> str:
    """Make an API key and return its secret.

    Args:
        permissions: by default the ten of the governance contract; none of them: ``[]``.

    Raises:
        Refusal: the tenant is not ACTIVE, or not there.
        StoreError: the store failed; a key that nobody knows may be left behind.
    """
    body: dict[str, Any] = {"tenant_id": tenant_id, "name": "provisioned"}
    if permissions is not None:
        body["permissions"] = permissions
    secret: str = (await create_api_key(store, Call(), body))["key_secret"]
    return secret


def check_budget(tenant_id: str, scope: str, unit: str, allocated: int) -> None:
    """Check what can be checked without the store.

    Raises:
        Refusal: 400, for a scope that no subject of this tenant has, a unit or an amount that is
            not allowed.
    """
    own_scope(tenant_id, scope)
    if unit not in UNITS:
        raise invalid(f"unit {unit!r}", f"must be one of {', '.join(UNITS)}")
    if not 0 <= allocated <= INT64_MAX:
        raise invalid(f"allocated {allocated}", f"must be from 0 to {INT64_MAX}")
