"""Events: direct debits, for what could not be estimated before."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.runtime import Services
from cycles_server.store.layout import new_id

from ._rules import call_of, check_idempotency_header, counted, subject_scopes


async def create_event(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/events: 201 once every budget of the subject is charged."""
    body = exchange.body
    check_idempotency_header(exchange)
    scopes = subject_scopes(exchange)
    account = services.accounts.of_caller(exchange.caller)
    tenant = account.names.tenant
    policy = body.get("overage_policy", "DEFAULT")
    outcome = await counted(
        services.ledger.debit(call_of(exchange, account), body, scopes, new_id(tenant)),
        lambda code: services.metrics.event(tenant, "DENY", code, policy),
    )
    services.metrics.event(tenant, "APPLIED", outcome.reason, policy)
    if outcome.in_debt and not outcome.replayed:
        services.metrics.overdraft_incurred(tenant)
    return Reply(201, outcome.body)
