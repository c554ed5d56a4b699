"""Authentication: whether a key is good, and whose."""

from __future__ import annotations

from cycles_server.governance.validation import validate_api_key as validate
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services


async def validate_api_key(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/auth/validate: 200 whichever way it fell."""
    secret = exchange.body["key_secret"]
    return Reply(200, await validate(services.store, secret, services.api_keys.verify))
