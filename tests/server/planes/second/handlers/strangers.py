"""The tag Strangers."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply

from ..plane import Services


async def claim(exchange: Exchange, services: Services) -> Reply:
    """Its access says that a script confirms the caller; there is none."""
    return Reply(200)


async def greet(exchange: Exchange, services: Services) -> Reply:
    return Reply(200)
