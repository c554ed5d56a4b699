"""What several provisioners share: names, scopes, and the permissions of an ordinary key."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from cycles_conformance.provisioners import BudgetSpec, Change, Prepared, ProvisioningError

RUNTIME_PERMISSIONS: tuple[str, ...] = (
    "reservations:create",
    "reservations:commit",
    "reservations:release",
    "reservations:extend",
    "reservations:list",
    "balances:read",
    "budgets:read",
    "budgets:write",
    "policies:read",
    "policies:write",
    "webhooks:read",
    "webhooks:write",
    "events:read",
)
"""What the governance contract lets a tenant's key have, its admin permissions left out."""

MAX_AMOUNT = 2**63 - 1


def fresh_tenant_id() -> str:
    """An id that no other case and no other run has."""
    return f"ck-{secrets.token_hex(6)}"


def scope_below(tenant_id: str, path: str) -> str:
    """The canonical scope of ``path`` (may be empty) below a tenant."""
    return f"tenant:{tenant_id}/{path}".rstrip("/").lower()


def tenant_of(prepared: Prepared, change: Change) -> str:
    """Id of the tenant that a change is about. Raises ProvisioningError."""
    return _named(prepared.tenants, change.tenant, "tenant")


def secret_of(prepared: Prepared, change: Change) -> str:
    """Secret of the key that a change is about. Raises ProvisioningError."""
    return _named(prepared.secrets, change.key, "key")


def is_over_limit(spec: BudgetSpec) -> bool:
    """The flag that a budget starts with: as specified, else what its debt makes it."""
    if spec.is_over_limit is None:
        return spec.debt > spec.overdraft_limit
    return spec.is_over_limit


def one_line(text: str, limit: int = 300) -> str:
    """A text that fits into a line of the report."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _named(known: Mapping[str, str], name: str, kind: str) -> str:
    if name not in known:
        raise ProvisioningError(f"the case has no {kind} named {name!r}")
    return known[name]
