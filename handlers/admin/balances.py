"""Balances: a tenant's whole ledgers."""

from __future__ import annotations

from cycles_server.governance.listing.budgets import balances_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import named_tenant


async def get_balances(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/balances."""
    tenant, scope_filter = named_tenant(exchange), exchange.caller.scope_filter
    most_bytes = services.settings.cycles_max_page_bytes
    page = await balances_page(services.store, tenant, exchange.query, scope_filter, most_bytes)
    return Reply(200, page)
