"""The tag Strangers."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply

from ..plane import Services


async def greet(exchange: Exchange, services: Services) -> Reply:
    return Reply(200)
