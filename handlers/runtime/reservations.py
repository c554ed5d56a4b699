"""Reservations: create, list, get, commit, release, extend."""

from __future__ import annotations

from cycles_server.auth.scopefilter import admits
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.ledger.audit import NO_AUDIT, operator_release_entry
from cycles_server.ledger.refusals import refusal
from cycles_server.planes.runtime import Services
from cycles_server.refusal import forbidden
from cycles_server.reservations.bodies import ALL_MAPS, reservation_detail
from cycles_server.reservations.listing import list_page, read_list_query
from cycles_server.reservations.lookup import find_reservation
from cycles_server.reservations.records import text_of
from cycles_server.store.clock import now_ms
from cycles_server.store.layout import new_id

from ._rules import (
    call_of,
    check_idempotency_header,
    counted,
    effective_tenant,
    reservation_account,
    subject_scopes,
)

DEFAULT = "DEFAULT"
UNKNOWN = "UNKNOWN"


async def create_reservation(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/reservations: 200, or a refusal that held nothing."""
    body = exchange.body
    check_idempotency_header(exchange)
    scopes = subject_scopes(exchange)
    account = services.accounts.of_caller(exchange.caller)
    call = call_of(exchange, account)
    if body.get("dry_run"):
        evaluated = await services.ledger.evaluate(call, body, scopes, dry_run=True)
        return Reply(200, evaluated.body)

    tenant = account.names.tenant
    policy = body.get("overage_policy", DEFAULT)
    outcome = await counted(
        services.ledger.reserve(call, body, scopes, new_id(tenant)),
        lambda code: services.metrics.reserve(tenant, "DENY", code, policy),
    )
    services.metrics.reserve(tenant, outcome.body["decision"], outcome.reason, policy)
    return Reply(200, outcome.body)


async def commit_reservation(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/reservations/{reservation_id}/commit."""
    check_idempotency_header(exchange)
    reservation_id = exchange.path_params["reservation_id"]
    account = await reservation_account(exchange, services, reservation_id)
    tenant = account.names.tenant
    outcome = await counted(
        services.ledger.commit(call_of(exchange, account), exchange.body, reservation_id),
        lambda code: services.metrics.commit(tenant, "DENY", code, UNKNOWN),
    )
    services.metrics.commit(tenant, "COMMITTED", outcome.reason, outcome.policy or UNKNOWN)
    if outcome.in_debt and not outcome.replayed:
        services.metrics.overdraft_incurred(tenant)
    return Reply(200, outcome.body)


async def release_reservation(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/reservations/{reservation_id}/release, by the tenant or by the operator."""
    check_idempotency_header(exchange)
    reservation_id = exchange.path_params["reservation_id"]
    account = await reservation_account(exchange, services, reservation_id)
    tenant = account.names.tenant
    actor = "admin_on_behalf_of" if exchange.caller.is_admin else "tenant"
    call = call_of(exchange, account)
    audit = NO_AUDIT
    if exchange.caller.is_admin:
        audit = operator_release_entry(
            call,
            exchange.body,
            reservation_id,
            now_ms=await now_ms(services.store),
            kept_days=services.settings.audit_retention_days,
        )
    outcome = await counted(
        services.ledger.release(call, exchange.body, reservation_id, audit=audit),
        lambda code: services.metrics.release(tenant, actor, "DENY", code),
    )
    services.metrics.release(tenant, actor, "RELEASED", outcome.reason)
    return Reply(200, outcome.body)


async def extend_reservation(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/reservations/{reservation_id}/extend."""
    check_idempotency_header(exchange)
    reservation_id = exchange.path_params["reservation_id"]
    account = await reservation_account(exchange, services, reservation_id)
    tenant = account.names.tenant
    outcome = await counted(
        services.ledger.extend(call_of(exchange, account), exchange.body, reservation_id),
        lambda code: services.metrics.extend(tenant, "DENY", code),
    )
    services.metrics.extend(tenant, "ACTIVE", outcome.reason)
    return Reply(200, outcome.body)


async def list_reservations(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/reservations: one page; it stays open to a closed tenant."""
    query = read_list_query(exchange.query, exchange.caller.scope_filter)
    tenant = effective_tenant(exchange)
    most_bytes = services.settings.cycles_max_page_bytes
    return Reply(200, await list_page(services.store, tenant, query, most_bytes))


async def get_reservation(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/reservations/{reservation_id}: 410 once it has expired."""
    caller = exchange.caller
    reservation_id = exchange.path_params["reservation_id"]
    row = await find_reservation(services.store, reservation_id)
    if not caller.is_admin and text_of(row, "tenant") != caller.tenant:
        raise refusal("FORBIDDEN")
    if caller.scope_filter and not admits(caller.scope_filter, text_of(row, "scope_path")):
        raise forbidden("This API key is limited to other scopes than this reservation's")
    if text_of(row, "state") == "EXPIRED":
        raise refusal("RESERVATION_EXPIRED")
    return Reply(200, reservation_detail(reservation_id, row, ALL_MAPS))
