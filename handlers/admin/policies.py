"""Policies: create, list, update."""

from __future__ import annotations

from cycles_server.governance import policies
from cycles_server.governance.call import closed_first
from cycles_server.governance.listing.policies import policy_page
from cycles_server.governance.patterns import own_pattern
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import call_of, check_scope_filter, named_tenant, owner_in_body


async def create_policy(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/policies."""
    body = exchange.body
    tenant_id = owner_in_body(exchange)
    async with closed_first(services.store, tenant_id):
        pattern = own_pattern(tenant_id, body["scope_pattern"])
        check_scope_filter(exchange, pattern.below(tenant_id))
    call = call_of(exchange, services)
    return Reply(201, await policies.create_policy(services.store, call, tenant_id, body))


async def list_policies(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/policies."""
    tenant, scope_filter = named_tenant(exchange), exchange.caller.scope_filter
    most_bytes = services.settings.cycles_max_page_bytes
    page = await policy_page(services.store, tenant, exchange.query, scope_filter, most_bytes)
    return Reply(200, page)


async def update_policy(exchange: Exchange, services: Services) -> Reply:
    """PATCH /v1/admin/policies/{policy_id}: another tenant's is not there for a tenant's key."""
    policy_id = exchange.path_params["policy_id"]
    found = await policies.find_policy(services.store, policy_id, exchange.caller.tenant)
    if exchange.caller.scope_filter:
        check_scope_filter(exchange, found.scope)
    call = call_of(exchange, services)
    return Reply(200, await policies.update_policy(services.store, call, found, exchange.body))
