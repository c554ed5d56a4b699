"""Balances: what each of a tenant's budgets still has."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply
from cycles_server.ledger.balances import balance_page, read_balance_query
from cycles_server.planes.runtime import Services

from ._rules import effective_tenant


async def get_balances(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/balances: one page of the budgets that match the subject filter."""
    query = read_balance_query(exchange.query, exchange.caller.scope_filter)
    tenant = effective_tenant(exchange)
    return Reply(200, await balance_page(services.store, tenant, query))
