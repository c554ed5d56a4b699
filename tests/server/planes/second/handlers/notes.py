"""The tag Notes."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply
from cycles_server.refusal import Refusal

from ..plane import Services


async def get_balances(exchange: Exchange, services: Services) -> Reply:
    return Reply(200, {"notes": len(services.notes)})


async def put_note(exchange: Exchange, services: Services) -> Reply:
    services.notes.add(exchange.path_params["name"])
    return Reply(204)


async def delete_note(exchange: Exchange, services: Services) -> Reply:
    try:
        services.notes.remove(exchange.path_params["name"])
    except KeyError:
        raise Refusal("NOTE_GONE", "There is no such note") from None
    return Reply(204)
