"""How the tenants, keys and budgets of a case come into being: a provisioner for each kind of
server.

A case says what it needs (``Given``) in the words of ``cases/README.md``; a provisioner makes it,
or says which part it cannot make. Every amount is an exact integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class ProvisioningError(Exception):
    """The provisioner failed although it can make what was asked for; one line: what, and where."""


@dataclass(frozen=True)
class TenantSpec:
    """A tenant; ``settings`` holds only what the case names (``default_reservation_ttl_ms``, …)."""

    name: str
    status: str = "ACTIVE"
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: bool = True
    """False: the tenant has keys and budgets, and no record of its own."""


@dataclass(frozen=True)
class KeySpec:
    name: str
    tenant: str
    """Name (not id) of its tenant."""
    permissions: tuple[str, ...] | None = None
    """None: every runtime permission."""
    scope_filter: tuple[str, ...] | None = None
    revoked: bool = False
    expired: bool = False
    expires_in: int | None = None
    """Seconds from its making after which it has expired; None: it outlasts the run."""


@dataclass(frozen=True)
class BudgetSpec:
    tenant: str
    """Name (not id) of its tenant."""
    scope: str
    """Path below the tenant, e.g. ``workspace:eng/agent:bot``; empty for the tenant itself."""
    unit: str
    allocated: int
    overdraft_limit: int = 0
    status: str = "ACTIVE"
    debt: int = 0
    """Debt from the start: remaining is then ``allocated - debt``."""
    is_over_limit: bool | None = None
    commit_overage_policy: str | None = None
    caps: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Given:
    tenants: tuple[TenantSpec, ...]
    keys: tuple[KeySpec, ...]
    """One for each tenant, of the tenant's name, and those that the case adds."""
    budgets: tuple[BudgetSpec, ...]
    changes: tuple[str, ...] = ()
    """Kinds of the changes that the case makes later (``freeze``, ``close_tenant``, …)."""
    shared: bool = False
    """Many cases use this one; it is made once for each run."""


@dataclass(frozen=True)
class Change:
    """A change to what was given. ``kind`` is one of the members of a ``provision`` step."""

    kind: str
    """freeze, unfreeze, close_budget, fund, repay, close_tenant, suspend_tenant, corrupt_tenant,
    revoke"""
    tenant: str = "tenant"
    scope: str = ""
    unit: str = ""
    amount: int = 0
    key: str = ""


@dataclass(frozen=True)
class Prepared:
    """What was made."""

    tenants: Mapping[str, str]
    """Id of each tenant by its name in the case."""
    secrets: Mapping[str, str]
    """Secret of each key by its name in the case."""


class Provisioner(Protocol):
    """Makes what cases need. Used from several threads at once."""

    name: str
    """For the report: ``redis``, ``admin API``, ``command``, ``fixtures``."""
    doubt: str
    """What to ask oneself when the server knows none of the keys; a question without secrets."""

    def lacks(self, given: Given) -> str | None:
        """Why this cannot be made here, in half a sentence; None if it can."""

    def prepare(self, given: Given) -> Prepared:
        """Make it, with fresh tenant ids. Raises ProvisioningError."""

    def change(self, prepared: Prepared, change: Change) -> None:
        """Carry out one change. Raises ProvisioningError."""

    def close(self) -> None:
        """Give connections back."""
