"""Budgets: create, list, look up, update, freeze, unfreeze, fund."""

from __future__ import annotations

import orjson

from cycles_server.governance import budgets
from cycles_server.governance.bulk.budgets import bulk_action_budgets as act_on_many
from cycles_server.governance.funding import fund_budget as fund
from cycles_server.governance.listing.budgets import budget_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import call_of, check_scope_filter, named_tenant, owner_in_body


async def create_budget(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/budgets."""
    body = exchange.body
    tenant_id = owner_in_body(exchange)
    check_scope_filter(exchange, body["scope"])
    call = call_of(exchange, services)
    return Reply(201, await budgets.create_budget(services.store, call, tenant_id, body))


async def list_budgets(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/budgets: a tenant's key sees its own tenant's alone."""
    caller = exchange.caller
    page = await budget_page(
        services.store,
        caller.tenant,
        exchange.query,
        caller.scope_filter,
        most_bytes=services.settings.cycles_max_page_bytes,
    )
    return Reply(200, page)


async def lookup_budget(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/budgets/lookup: a tenant's key finds its own tenant's alone."""
    scope, unit = exchange.query["scope"], exchange.query["unit"]
    check_scope_filter(exchange, scope)
    tenant_id = exchange.caller.tenant
    return Reply(200, await budgets.find_budget(services.store, scope, unit, tenant_id))


async def update_budget(exchange: Exchange, services: Services) -> Reply:
    """PATCH /v1/admin/budgets."""
    query = exchange.query
    updated = await budgets.update_budget(
        services.store, call_of(exchange, services), query["scope"], query["unit"], exchange.body
    )
    return Reply(200, updated)


async def freeze_budget(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/budgets/freeze."""
    return await _set_status(exchange, services, budgets.FROZEN)


async def unfreeze_budget(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/budgets/unfreeze."""
    return await _set_status(exchange, services, budgets.ACTIVE)


async def fund_budget(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/budgets/fund."""
    query = exchange.query
    tenant_id = named_tenant(exchange)
    check_scope_filter(exchange, query["scope"])
    funded = await fund(
        services.store,
        call_of(exchange, services),
        tenant_id,
        query["scope"],
        query["unit"],
        exchange.body,
        changeover=services.settings.cycles_reference_replays,
    )
    return Reply(200, funded)


async def bulk_action_budgets(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/budgets/bulk-action."""
    answer = await act_on_many(
        services.store,
        call_of(exchange, services),
        exchange.body,
        changeover=services.settings.cycles_reference_replays,
    )
    return Reply(200, orjson.loads(answer), raw=answer)


async def _set_status(exchange: Exchange, services: Services, status: str) -> Reply:
    query = exchange.query
    call = call_of(exchange, services)
    body = exchange.body or {}
    changed = await budgets.set_status(
        services.store, call, query["scope"], query["unit"], status, body
    )
    return Reply(200, changed)
