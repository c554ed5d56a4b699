"""What a case needs beyond an ordinary tenant with its key and its budgets, by name."""

from __future__ import annotations

from collections.abc import Iterator

from cycles_conformance.provisioners import BudgetSpec, Given, KeySpec, TenantSpec
from cycles_conformance.provisioners.common import is_over_limit

CAPABILITIES: dict[str, str] = {
    "second_tenant": "make more than one tenant for a case",
    "tenant_settings": "set reservation limits or an overage policy of a tenant",
    "suspended_tenant": "make a tenant that is suspended",
    "closed_tenant": "make a tenant that is closed",
    "tenant_without_record": "make a tenant without a record",
    "permissions": "make a key with only some permissions",
    "scope_filter": "make a key with a scope filter",
    "revoked_key": "make a key that is revoked",
    "expired_key": "make a key that has expired",
    "expiring_key": "make a key that expires during a case",
    "overdraft_limit": "give a budget an overdraft limit",
    "frozen_budget": "make a budget that is frozen",
    "closed_budget": "make a budget that is closed",
    "debt": "put a budget into debt",
    "is_over_limit": "mark a budget as over its limit",
    "commit_overage_policy": "give a budget an overage policy of its own",
    "caps": "give a budget caps",
    "freeze": "freeze a budget during a case",
    "unfreeze": "unfreeze a budget during a case",
    "close_budget": "close a budget during a case",
    "fund": "fund a budget during a case",
    "repay": "repay a debt during a case",
    "close_tenant": "close a tenant during a case",
    "suspend_tenant": "suspend a tenant during a case",
    "corrupt_tenant": "make a tenant's record unreadable during a case",
    "revoke": "revoke a key during a case",
}
"""Each with the words that finish the sentence "the … cannot"."""


def capabilities_for(given: Given) -> list[str]:
    """Names from CAPABILITIES of what a case needs, in their order; changes during the case
    included."""
    found = set(given.changes)
    if len(given.tenants) > 1:
        found.add("second_tenant")
    for tenant in given.tenants:
        found.update(_of_tenant(tenant))
    for key in given.keys:
        found.update(_of_key(key))
    for budget in given.budgets:
        found.update(_of_budget(budget))
    return [need for need in CAPABILITIES if need in found]


def _of_tenant(spec: TenantSpec) -> Iterator[str]:
    if spec.settings:
        yield "tenant_settings"
    if spec.status == "SUSPENDED":
        yield "suspended_tenant"
    if spec.status == "CLOSED":
        yield "closed_tenant"
    if not spec.record:
        yield "tenant_without_record"


def _of_key(spec: KeySpec) -> Iterator[str]:
    if spec.permissions is not None:
        yield "permissions"
    if spec.scope_filter is not None:
        yield "scope_filter"
    if spec.revoked:
        yield "revoked_key"
    if spec.expired:
        yield "expired_key"
    if spec.expires_in is not None:
        yield "expiring_key"


def _of_budget(spec: BudgetSpec) -> Iterator[str]:
    if spec.overdraft_limit:
        yield "overdraft_limit"
    if spec.status == "FROZEN":
        yield "frozen_budget"
    if spec.status == "CLOSED":
        yield "closed_budget"
    if spec.debt:
        yield "debt"
    # A flag that follows from debt and limit asks for nothing more.
    if is_over_limit(spec) != (spec.debt > spec.overdraft_limit):
        yield "is_over_limit"
    if spec.commit_overage_policy is not None:
        yield "commit_overage_policy"
    if spec.caps is not None:
        yield "caps"
