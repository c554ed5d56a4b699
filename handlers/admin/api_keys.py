"""API keys: create, list, update, revoke."""

from __future__ import annotations

from cycles_server.governance import api_keys
from cycles_server.governance.listing.api_keys import key_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services

from ._rules import call_of


async def create_api_key(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/admin/api-keys."""
    made = await api_keys.create_api_key(
        services.store,
        call_of(exchange, services),
        exchange.body,
        threads=services.api_keys.threads,
    )
    return Reply(201, made)


async def list_api_keys(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/api-keys."""
    most_bytes = services.settings.cycles_max_page_bytes
    return Reply(200, await key_page(services.store, exchange.query, most_bytes))


async def update_api_key(exchange: Exchange, services: Services) -> Reply:
    """PATCH /v1/admin/api-keys/{key_id}."""
    key_id = exchange.path_params["key_id"]
    call = call_of(exchange, services)
    return Reply(200, await api_keys.update_api_key(services.store, call, key_id, exchange.body))


async def revoke_api_key(exchange: Exchange, services: Services) -> Reply:
    """DELETE /v1/admin/api-keys/{key_id}."""
    key_id, reason = exchange.path_params["key_id"], exchange.query.get("reason", "")
    call = call_of(exchange, services)
    return Reply(200, await api_keys.revoke_api_key(services.store, call, key_id, reason))
