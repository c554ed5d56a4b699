"""What an operator's dashboard asks for."""

from __future__ import annotations

from cycles_server.governance.introspection import introspection
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services


async def get_admin_overview(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/overview; a header tells what it cost to make, in ms."""
    body, took_ms = await services.overview.body()
    return Reply(200, body, headers=(("server-timing", f"overview;dur={took_ms:.1f}"),))


async def introspect_auth(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/auth/introspect."""
    return Reply(200, introspection(exchange.caller))
