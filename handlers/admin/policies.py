"""Policies: list."""

from __future__ import annotations

from cycles_server.governance.listing.policies import policy_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import named_tenant


async def list_policies(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/policies."""
    tenant, scope_filter = named_tenant(exchange), exchange.caller.scope_filter
    return Reply(200, await policy_page(services.store, tenant, exchange.query, scope_filter))
