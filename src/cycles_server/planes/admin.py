"""The admin plane: tenants, API keys and budgets are made, funded, changed, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cycles_server.auth.access import Access, allow
from cycles_server.auth.adminkey import AdminKey
from cycles_server.auth.apikeys import ApiKeys
from cycles_server.contract.security import Authenticator
from cycles_server.http.problems import STATUS_OF
from cycles_server.monitoring.metrics import Metrics
from cycles_server.planes.plane import Cors, Plane, ServedDocs
from cycles_server.settings.admin import AdminSettings
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers of this plane work with."""

    settings: AdminSettings
    store: Store


OPERATOR_ONLY = Access(frozenset())
"""The contract accepts the operator's key alone."""


def _reads(kind: str) -> Access:
    return allow(f"{kind}:read", "admin:read", lacking="INSUFFICIENT_PERMISSIONS")


def _writes(kind: str) -> Access:
    return allow(
        f"{kind}:write",
        "admin:write",
        confirmed_by_script=True,
        lacking="INSUFFICIENT_PERMISSIONS",
    )


ACCESS = {
    "createTenant": OPERATOR_ONLY,
    "getTenant": OPERATOR_ONLY,
    "updateTenant": OPERATOR_ONLY,
    "createBudget": _writes("budgets"),
    "lookupBudget": _reads("budgets"),
    "updateBudget": OPERATOR_ONLY,
    "freezeBudget": OPERATOR_ONLY,
    "unfreezeBudget": OPERATOR_ONLY,
    "fundBudget": _writes("budgets"),
    "createPolicy": _writes("policies"),
    "updatePolicy": _writes("policies"),
}

STATUSES = {
    **STATUS_OF,
    "BUDGET_EXCEEDED": 409,
    "RESERVATION_EXPIRED": 410,
    "RESERVATION_FINALIZED": 409,
    "IDEMPOTENCY_MISMATCH": 409,
    "UNIT_MISMATCH": 400,
    "OVERDRAFT_LIMIT_EXCEEDED": 409,
    "DEBT_OUTSTANDING": 409,
    "TENANT_NOT_FOUND": 404,
    "TENANT_SUSPENDED": 400,
    "TENANT_CLOSED": 409,
    "BUDGET_NOT_FOUND": 404,
    "BUDGET_FROZEN": 409,
    "BUDGET_CLOSED": 409,
    "POLICY_VIOLATION": 409,
    "INSUFFICIENT_PERMISSIONS": 403,
    "KEY_REVOKED": 409,
    "KEY_EXPIRED": 409,
    "DUPLICATE_RESOURCE": 409,
    "WEBHOOK_NOT_FOUND": 404,
    "WEBHOOK_URL_INVALID": 400,
    "EVENT_NOT_FOUND": 404,
    "REPLAY_IN_PROGRESS": 409,
    "COUNT_MISMATCH": 409,
}

_EXPOSED = ("X-Request-Id", "X-Cycles-Trace-Id", "X-Cycles-Cascade-Status", "Retry-After")


def _services(settings: AdminSettings, store: Store, _: Metrics) -> Services:
    return Services(settings=settings, store=store)


def _authenticators(settings: AdminSettings, store: Store) -> Sequence[Authenticator]:
    return [AdminKey(settings.admin_api_key), ApiKeys(store)]


def _cors(settings: AdminSettings) -> Cors | None:
    return (
        Cors(settings.dashboard_cors_origin, _EXPOSED) if settings.dashboard_cors_origin else None
    )


ADMIN = Plane(
    name="admin",
    contract="cycles-governance-admin.yaml",
    handlers="cycles_server.handlers.admin",
    access=ACCESS,
    statuses=STATUSES,
    settings=AdminSettings,
    metrics=lambda _: Metrics(),
    services=_services,
    authenticators=_authenticators,
    cors=_cors,
    docs=lambda settings: ServedDocs(
        document=settings.api_docs_enabled, pages=settings.swagger_enabled
    ),
)
