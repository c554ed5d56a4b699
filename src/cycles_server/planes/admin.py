"""The admin plane: tenants, API keys and budgets are made, funded, changed, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cycles_server.auth.access import ANY_KEY, Access, allow
from cycles_server.auth.adminkey import AdminKey
from cycles_server.auth.apikeys import ApiKeys
from cycles_server.contract.security import Authenticator
from cycles_server.governance.closing.closings import Closings
from cycles_server.governance.overview import Overview
from cycles_server.http.cors import Cors
from cycles_server.http.problems import STATUS_OF
from cycles_server.jobs.audit_retention import prune_audit
from cycles_server.jobs.scheduler import Job
from cycles_server.jobs.timetable import at, every
from cycles_server.jobs.twin_upkeep import tend_twins
from cycles_server.monitoring.metrics import GovernanceMetrics
from cycles_server.planes.plane import Plane, ServedDocs
from cycles_server.planes.refusals import RefusalTrail
from cycles_server.settings.admin import AdminSettings
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers of this plane work with."""

    settings: AdminSettings
    store: Store
    closings: Closings
    overview: Overview
    api_keys: ApiKeys
    metrics: GovernanceMetrics


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
    "listTenants": OPERATOR_ONLY,
    "getTenant": OPERATOR_ONLY,
    "updateTenant": OPERATOR_ONLY,
    "createBudget": _writes("budgets"),
    "listBudgets": _reads("budgets"),
    "lookupBudget": _reads("budgets"),
    "updateBudget": OPERATOR_ONLY,
    "freezeBudget": OPERATOR_ONLY,
    "unfreezeBudget": OPERATOR_ONLY,
    "fundBudget": _writes("budgets"),
    "getAdminOverview": OPERATOR_ONLY,
    "bulkActionTenants": OPERATOR_ONLY,
    "bulkActionBudgets": OPERATOR_ONLY,
    "getBalances": _reads("balances"),
    "listPolicies": _reads("policies"),
    "listApiKeys": OPERATOR_ONLY,
    "createApiKey": OPERATOR_ONLY,
    "updateApiKey": OPERATOR_ONLY,
    "revokeApiKey": OPERATOR_ONLY,
    "validateApiKey": OPERATOR_ONLY,
    "introspectAuth": ANY_KEY,
    "listAuditLogs": OPERATOR_ONLY,
    "createPolicy": _writes("policies"),
    "updatePolicy": _writes("policies"),
}

STATUSES = {
    **STATUS_OF,
    # More rows than a bulk action may have; too many requests are told by their waiting time.
    "LIMIT_EXCEEDED": 400,
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


def _services(settings: AdminSettings, store: Store, metrics: GovernanceMetrics) -> Services:
    return Services(
        settings=settings,
        store=store,
        metrics=metrics,
        closings=Closings(store, audit_days=settings.audit_retention_authenticated_days),
        overview=Overview(store),
        api_keys=ApiKeys(store, strict=True),
    )


def _authenticators(settings: AdminSettings, services: Services) -> Sequence[Authenticator]:
    return [AdminKey(settings.admin_api_key, needed=True), services.api_keys]


def _warnings(settings: AdminSettings) -> Sequence[str]:
    if settings.admin_api_key:
        return ()
    return ("ADMIN_API_KEY is not set: every call of an operator will be answered with 500",)


def _jobs(services: Services) -> Sequence[Job]:
    settings = services.settings
    retentions = (
        settings.audit_retention_authenticated_days,
        settings.audit_retention_unauthenticated_days,
    )
    most = settings.tenant_close_reconciler_max_tenants_per_run
    closing = every(settings.tenant_close_reconciler_interval_ms)
    return [
        Job(
            "audit-prune",
            partial(prune_audit, services.store, retentions),
            at(settings.audit_sweep_cron),
        ),
        Job(
            "list-order-check",
            partial(tend_twins, services.store),
            every(settings.cycles_list_order_check_interval_ms),
        ),
        Job(
            "tenant-close",
            partial(services.closings.reconcile, most),
            closing if settings.tenant_close_reconciler_enabled else None,
        ),
    ]


def _on_refusal(services: Services) -> RefusalTrail:
    return RefusalTrail(services.settings, services.store, services.metrics)


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
    metrics=lambda _: GovernanceMetrics(),
    services=_services,
    authenticators=_authenticators,
    jobs=_jobs,
    on_refusal=_on_refusal,
    cors=_cors,
    docs=lambda settings: ServedDocs(
        document=settings.api_docs_enabled, pages=settings.swagger_enabled
    ),
    warnings=_warnings,
)
