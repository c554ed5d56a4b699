"""Tenants: create, list, get, update."""

from __future__ import annotations

import orjson

from cycles_server.governance.bulk.tenants import bulk_action_tenants as act_on_many
from cycles_server.governance.call import Call
from cycles_server.governance.closing.cascade import begin_close
from cycles_server.governance.listing.tenants import tenant_page
from cycles_server.governance.tenants import CLOSED, Body, asked_changes, find_tenant
from cycles_server.governance.tenants import create_tenant as create
from cycles_server.governance.tenants import update_tenant as update
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services
from cycles_server.refusal import Refusal

from ._rules import call_of

_WAIT_S = 20.0
_IN_PROGRESS = (("x-cycles-cascade-status", "in_progress"), ("retry-after", "1"))


async def create_tenant(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/tenants: 201 for a new one, 200 for one that exists under this name."""
    tenant, is_new = await create(services.store, call_of(exchange, services), exchange.body)
    return Reply(201 if is_new else 200, tenant)


async def list_tenants(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/tenants."""
    most_bytes = services.settings.cycles_max_page_bytes
    return Reply(200, await tenant_page(services.store, exchange.query, most_bytes))


async def get_tenant(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/tenants/{tenant_id}."""
    return Reply(200, await find_tenant(services.store, exchange.path_params["tenant_id"]))


async def update_tenant(exchange: Exchange, services: Services) -> Reply:
    """PATCH /v1/admin/tenants/{tenant_id}."""
    tenant_id, body = exchange.path_params["tenant_id"], exchange.body
    call = call_of(exchange, services)
    if body.get("status") == CLOSED:
        return await _close(services, call, tenant_id, body)
    return Reply(200, await update(services.store, call, tenant_id, body))


async def _close(services: Services, call: Call, tenant_id: str, body: Body) -> Reply:
    """The tenant is closed with the first step; the answer waits a while for what it owns."""
    changes = asked_changes(body)
    del changes["status"]
    tenant, _ = await begin_close(services.store, call, tenant_id, changes)
    converged = await services.closings.settle(tenant_id, within_s=_WAIT_S)
    if converged is None:
        return Reply(200, tenant, headers=_IN_PROGRESS)
    if converged.failed:
        raise Refusal(
            "INTERNAL_ERROR",
            f"Tenant {tenant_id} is CLOSED; some of what it owns could not be ended",
            details={"failed_resources": converged.failed},
        )
    return Reply(200, tenant)


async def bulk_action_tenants(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/tenants/bulk-action."""
    call = call_of(exchange, services)
    answer = await act_on_many(services.store, call, services.closings, exchange.body)
    return Reply(200, orjson.loads(answer), raw=answer)
