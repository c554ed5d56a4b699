"""What a case needs before its first step, from the words of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.casefiles.case import all_steps
from cycles_conformance.provisioners import BudgetSpec, Given, KeySpec, TenantSpec

UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
DEFAULT_UNIT = "TOKENS"
SCOPE_LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
"""The members of a subject that name its scopes, in the contract's order."""
DEFAULT_ALLOCATED = 10**9
SHARED = Given(
    (TenantSpec("tenant"),),
    (KeySpec("tenant", "tenant"),),
    tuple(BudgetSpec("tenant", "", unit, 10**15) for unit in UNITS),
    shared=True,
)
"""``given: shared``"""


NOTHING = Given((), (), ())
"""``given: nothing``"""


def given_of(given: Any, unit: str, steps: tuple[Mapping[str, Any], ...]) -> Given:
    if given == "shared":
        return SHARED
    if given == "nothing":
        return NOTHING
    tenants = []
    for name, settings in given.get("tenants", {"tenant": {}}).items():
        rest = {k: v for k, v in settings.items() if k not in ("status", "record")}
        tenants.append(
            TenantSpec(
                name,
                status=settings.get("status", "ACTIVE"),
                settings=rest,
                record=settings.get("record", True),
            )
        )
    keys = [KeySpec(tenant.name, tenant.name) for tenant in tenants]
    for name, key in given.get("keys", {}).items():
        permissions, scope_filter = key.get("permissions"), key.get("scope_filter")
        keys.append(
            KeySpec(
                name,
                key.get("tenant", "tenant"),
                permissions=None if permissions is None else tuple(permissions),
                scope_filter=None if scope_filter is None else tuple(scope_filter),
                revoked=key.get("status") == "REVOKED",
                expired=key.get("expired", False),
                expires_in=key.get("expires_in"),
            )
        )
    budgets = tuple(
        BudgetSpec(
            tenant=budget.get("tenant", "tenant"),
            scope=budget.get("scope", ""),
            unit=budget.get("unit", unit).replace("${unit}", unit),
            allocated=budget.get("allocated", DEFAULT_ALLOCATED),
            overdraft_limit=budget.get("overdraft_limit", 0),
            status=budget.get("status", "ACTIVE"),
            debt=budget.get("debt", 0),
            is_over_limit=budget.get("is_over_limit"),
            commit_overage_policy=budget.get("commit_overage_policy"),
            caps=budget.get("caps"),
        )
        for budget in given.get("budgets", ())
    )
    kinds = [next(iter(step["provision"])) for step in all_steps(steps) if "provision" in step]
    return Given(tuple(tenants), tuple(keys), budgets, tuple(dict.fromkeys(kinds)))
