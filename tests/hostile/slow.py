"""Clients that take their time."""

from __future__ import annotations

import asyncio
from random import Random

from .stranger import CLOSE, LIVENESS, Reply, Stranger, Target, cut, request

_UNREAD = 30
"""Answers of over a megabyte each."""
PATHS = (LIVENESS, "/v1/balances", "/v1/nowhere", "/actuator/info", "/api-docs")


async def silent(target: Target, chance: Random) -> list[Reply]:
    """Says next to nothing."""
    stranger = await Stranger.open(target)
    try:
        await stranger.say(chance.choice([b"", b"\r\n\r\n", b"G", b"GET /v1/bal"]))
        return await stranger.rest()
    finally:
        stranger.close()


async def dripped_head(target: Target, chance: Random) -> list[Reply]:
    data = request("GET", chance.choice(PATHS), b"X: " + b"x" * 2000)
    place = chance.randrange(1, 200)
    stranger = await Stranger.open(target)
    try:
        await stranger.say(data[:place])
        return await stranger.rest_while_saying(*cut(data[place:], 1), pause_s=target.pause_s)
    finally:
        stranger.close()


async def dripped_body(target: Target, chance: Random) -> list[Reply]:
    """Of a known tenant, or of nobody."""
    key = chance.choice([b"X-Cycles-API-Key: %b" % target.api_key.encode(), b"X: x"])
    chunks = chance.random() < 0.5
    framing = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: 2000"
    kind = b"Content-Type: application/json"
    drops = [b"1\r\n \r\n" if chunks else b" "] * 1999
    stranger = await Stranger.open(target)
    try:
        await stranger.say(request("POST", "/v1/reservations", key, kind, framing))
        return await stranger.rest_while_saying(*drops, pause_s=target.pause_s)
    finally:
        stranger.close()


async def unread(target: Target, chance: Random) -> list[Reply]:
    """Asks for much, and reads late."""
    key = b"X-Admin-API-Key: %b" % target.admin_key.encode()
    path = "/swagger-ui/swagger-ui-bundle.js"
    asked = request("GET", path, key) * (_UNREAD - 1) + request("GET", path, key, CLOSE)
    stranger = await Stranger.open(target, small=True)
    try:
        await stranger.say(asked)
        await asyncio.sleep(chance.uniform(0, 20 * target.pause_s))
        return await stranger.rest()
    finally:
        stranger.close()
