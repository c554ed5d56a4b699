"""The runtime plane: budgets are reserved, committed, released, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cycles_server.auth.access import PUBLIC, allow
from cycles_server.auth.adminkey import AdminKey
from cycles_server.auth.apikeys import ApiKeys
from cycles_server.contract.security import Authenticator
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.http.problems import STATUS_OF
from cycles_server.jobs.audit_retention import prune_audit
from cycles_server.jobs.index_repair import prune_index, repair_index
from cycles_server.jobs.scheduler import Job
from cycles_server.jobs.sweeper import Sweeper
from cycles_server.jobs.timetable import at, every
from cycles_server.ledger.accounts import Accounts
from cycles_server.ledger.ledger import Ledger
from cycles_server.monitoring.metrics import LedgerMetrics
from cycles_server.planes.plane import Plane, ServedDocs
from cycles_server.settings.runtime import RuntimeSettings
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers of this plane work with."""

    settings: RuntimeSettings
    store: Store
    accounts: Accounts
    ledger: Ledger
    metrics: LedgerMetrics


# The clients' documentation issues keys with `decide` and `events:create`, which the governance
# contract does not list; both count. What was spent before a suspension must still reach the
# ledger, and may be looked at.
ACCESS = {
    "decide": allow("reservations:create", "decide", confirmed_by_script=True),
    "createReservation": allow("reservations:create", confirmed_by_script=True),
    "commitReservation": allow(
        "reservations:commit", while_suspended=True, confirmed_by_script=True
    ),
    "releaseReservation": allow(
        "reservations:release", while_suspended=True, confirmed_by_script=True
    ),
    "extendReservation": allow("reservations:extend", confirmed_by_script=True),
    "listReservations": allow("reservations:list", while_suspended=True),
    "getReservation": allow("reservations:list", while_suspended=True),
    "getBalances": allow("balances:read", "admin:read", while_suspended=True),
    "createEvent": allow("reservations:commit", "events:create", confirmed_by_script=True),
    "getEvidence": PUBLIC,
    "getEvidenceJwks": PUBLIC,
}

STATUSES = {
    **STATUS_OF,
    "BUDGET_EXCEEDED": 409,
    "BUDGET_FROZEN": 409,
    "BUDGET_CLOSED": 409,
    "RESERVATION_EXPIRED": 410,
    "RESERVATION_FINALIZED": 409,
    "IDEMPOTENCY_MISMATCH": 409,
    "UNIT_MISMATCH": 400,
    "OVERDRAFT_LIMIT_EXCEEDED": 409,
    "DEBT_OUTSTANDING": 409,
    "MAX_EXTENSIONS_EXCEEDED": 409,
    "TENANT_CLOSED": 409,
}

# Authenticated operations have no limit but what a policy sets; the reference says so with these.
_NO_LIMIT = [(b"x-ratelimit-remaining", b"-1"), (b"x-ratelimit-reset", b"0")]


def _services(settings: RuntimeSettings, store: Store, metrics: LedgerMetrics) -> Services:
    accounts = Accounts(store)
    return Services(
        settings=settings,
        store=store,
        accounts=accounts,
        ledger=Ledger(store, accounts, reference_replays=settings.cycles_reference_replays),
        metrics=metrics,
    )


def _metrics(settings: RuntimeSettings) -> LedgerMetrics:
    return LedgerMetrics(tenant_label=settings.cycles_metrics_tenant_tag_enabled)


def _authenticators(settings: RuntimeSettings, services: Services) -> Sequence[Authenticator]:
    return [AdminKey(settings.admin_api_key), ApiKeys(services.store)]


def _jobs(services: Services) -> Sequence[Job]:
    settings, store = services.settings, services.store
    return [
        Job(
            "expiry",
            Sweeper(store, services.metrics).sweep,
            every(settings.cycles_expiry_interval_ms),
        ),
        Job(
            "reservation-index-repair",
            partial(repair_index, store),
            every(
                settings.reservation_created_at_index_repair_interval_ms,
                after_failure_ms=settings.reservation_created_at_index_failure_backoff_ms,
            ),
        ),
        Job(
            "reservation-index-prune",
            partial(prune_index, store),
            at(settings.reservation_created_at_index_sweep_cron),
        ),
        Job(
            "audit-prune",
            partial(prune_audit, store, [settings.audit_retention_days]),
            at(settings.audit_sweep_cron),
        ),
    ]


def _answer_headers(exchange: Exchange, reply: Reply) -> list[tuple[bytes, bytes]]:
    """The caller's tenant and its limits, where there is an authenticated caller."""
    # A key that was good before, and no longer is, leaves its principal in the exchange.
    if exchange.principal is None or reply.status == 401:
        return []
    if exchange.tenant is None:
        return _NO_LIMIT
    tenant = (b"x-cycles-tenant", exchange.tenant.encode())
    if reply.status == 429:  # until when is said with it
        return [tenant, (b"x-ratelimit-remaining", b"0")]
    return [tenant, *_NO_LIMIT]


RUNTIME = Plane(
    name="runtime",
    contract="cycles-protocol-v0.yaml",
    handlers="cycles_server.handlers.runtime",
    access=ACCESS,
    statuses=STATUSES,
    settings=RuntimeSettings,
    metrics=_metrics,
    services=_services,
    authenticators=_authenticators,
    jobs=_jobs,
    answer_headers=_answer_headers,
    docs=lambda settings: ServedDocs(
        document=settings.springdoc_api_docs_enabled,
        pages=settings.springdoc_swagger_ui_enabled,
    ),
)
