"""Tenants: create, list, get, update."""

from __future__ import annotations

from cycles_server.governance.listing.tenants import tenant_page
from cycles_server.governance.tenants import create_tenant as create
from cycles_server.governance.tenants import find_tenant
from cycles_server.governance.tenants import update_tenant as update
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import call_of


async def create_tenant(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/tenants: 201 for a new one, 200 for one that exists under this name."""
    tenant, is_new = await create(services.store, call_of(exchange, services), exchange.body)
    return Reply(201 if is_new else 200, tenant)


async def list_tenants(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/tenants."""
    return Reply(200, await tenant_page(services.store, exchange.query))


async def get_tenant(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/tenants/{tenant_id}."""
    return Reply(200, await find_tenant(services.store, exchange.path_params["tenant_id"]))


async def update_tenant(exchange: Exchange, services: Services) -> Reply:
    """PATCH /v1/admin/tenants/{tenant_id}."""
    tenant_id = exchange.path_params["tenant_id"]
    call = call_of(exchange, services)
    return Reply(200, await update(services.store, call, tenant_id, exchange.body))
