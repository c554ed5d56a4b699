"""Balances: a tenant's whole ledgers."""

from __future__ import annotations

from cycles_server.governance.listing.budgets import balances_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import named_tenant


async def get_balances(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/balances."""
    tenant, scope_filter = named_tenant(exchange), exchange.caller.scope_filter
    return Reply(200, await balances_page(services.store, tenant, exchange.query, scope_filter))
