"""Dashboard: what a caller's key may do."""

from __future__ import annotations

from cycles_server.governance.introspection import introspection
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services


async def introspect_auth(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/auth/introspect."""
    return Reply(200, introspection(exchange.caller))
