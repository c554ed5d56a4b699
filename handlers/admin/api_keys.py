"""API keys: list."""

from __future__ import annotations

from cycles_server.governance.listing.api_keys import key_page
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services


async def list_api_keys(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/api-keys."""
    return Reply(200, await key_page(services.store, exchange.query))
