"""Clients that stop in the middle."""

from __future__ import annotations

import json
import uuid
from random import Random

from .stranger import LIVENESS, Reply, Stranger, Target, chunked, request


def reserve(target: Target) -> bytes:
    """A request that is right in all but that there is no budget."""
    body = json.dumps(
        {
            "idempotency_key": uuid.uuid4().hex,
            "subject": {"agent": "stranger"},
            "action": {"kind": "k", "name": "n"},
            "estimate": {"unit": "TOKENS", "amount": 1},
        }
    ).encode()
    return request(
        "POST",
        "/v1/reservations",
        b"X-Cycles-API-Key: %b" % target.api_key.encode(),
        body=body,
    )


async def half(target: Target, chance: Random) -> list[Reply]:
    """Hangs up somewhere in a request, in one of three ways."""
    data = chance.choice(
        [
            reserve(target),
            request("GET", LIVENESS) + reserve(target),
            request("POST", "/v1/decide", body=b" " * 50_000),
            chunked("/v1/events", body=b"a\r\n0123456789\r\n" * 100),
        ]
    )
    stranger = await Stranger.open(target)
    try:
        await stranger.say(data[: chance.randrange(1, len(data))])
        how = chance.choice(["end", "reset", "close"])
        if how == "end":
            stranger.end_sending()
            return await stranger.rest()
        if how == "reset":
            stranger.reset()
        return []
    finally:
        stranger.close()


async def half_closed(target: Target, chance: Random) -> list[Reply]:
    """Says all at once that it has to say, and that this is all."""
    data = [reserve(target), request("GET", LIVENESS), request("GET", "/v1/balances")]
    stranger = await Stranger.open(target)
    try:
        await stranger.say(b"".join(chance.choices(data, k=chance.randrange(1, 20))))
        stranger.end_sending()
        return await stranger.rest()
    finally:
        stranger.close()
