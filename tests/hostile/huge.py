"""Clients that send more than anybody should."""

from __future__ import annotations

import random
from random import Random

from .stranger import CLOSE, Reply, Stranger, Target, chunked, cut, request

_MUCH = 200_000
_MEBIBYTE = 1_048_576


async def _said(
    target: Target, chance: Random, data: bytes, *, pause_s: float = 0.0
) -> list[Reply]:
    """All of it in one go or in pieces, and what the server says to it."""
    stranger = await Stranger.open(target)
    try:
        size = chance.choice([len(data), 70_000, 10_000])
        await stranger.say(*cut(data, size), pause_s=pause_s)
        return await stranger.rest()
    finally:
        stranger.close()


def _key(target: Target, chance: Random) -> bytes:
    """A known tenant's, or nobody's."""
    return chance.choice([b"X-Cycles-API-Key: %b" % target.api_key.encode(), b"X: x"])


async def long_head(target: Target, chance: Random) -> list[Reply]:
    long = b"x" * _MUCH
    data = chance.choice(
        [
            b"GET /" + long,
            b"GET / HTTP/1.1\r\n" + long,
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + long,
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 20_000,
            b"GET / HTTP/1.1\r\n" + b"Cookie: a=b\r\n" * 20_000,
            b"POST /v1/reservations HTTP/1.1\r\nHost: a\r\nExpect: " + long,
        ]
    )
    return await _said(target, chance, data)


async def big_body(target: Target, chance: Random) -> list[Reply]:
    key = _key(target, chance)
    body = b" " * chance.randrange(_MEBIBYTE + 1, 2 * _MEBIBYTE)
    path = "/v1/reservations"
    data = request("POST", path, key, CLOSE, body=body)
    if chance.random() < 0.5:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in cut(body, 100_000))
        data = chunked(path, key, CLOSE, body=chunks + b"0\r\n\r\n")
    return await _said(target, chance, data)


async def chunk_extensions(target: Target, chance: Random) -> list[Reply]:
    """Chunks that are next to nothing but what stands beside them."""
    body = chance.choice(
        [
            b"1;x=" + b"x" * _MUCH,
            b"1;a=b\r\n \r\n" * 20_000 + b"0\r\n\r\n",
            b"0\r\nX: " + b"x" * _MUCH,
            b"0\r\n" + b"a:\r\n" * 20_000,
        ]
    )
    return await _said(
        target, chance, chunked("/v1/reservations", _key(target, chance), CLOSE, body=body)
    )


def junk(chance: Random, size: int = _MEBIBYTE) -> bytes:
    """A body of this size that no operation takes, and that costs something to look at."""
    filled = chance.choice(
        [
            b"[" * size,
            b'{"a":' * (size // 5),
            b"[" + b"1," * (size // 2 - 2) + b"1]",
            b'{"idempotency_key":"' + b"x" * (size - 30) + b'"}',
            b'{"metadata":{' + b",".join(b'"k%07d":1' % number for number in range(size // 13))
            + b"}}",
            b"[" + b'{"":[]},' * (size // 8 - 2) + b"0]",
            b'{"estimate":' + b"9" * (size - 20) + b"}",
            b'"' + b"\\u0000" * (size // 6 - 1) + b'"',
            b'"' + b"\xff" * (size - 2) + b'"',
            random.Random(chance.random()).randbytes(size),
        ]
    )  # fmt: skip
    return filled[:size]


async def junk_json(target: Target, chance: Random) -> list[Reply]:
    """As large as a body may be, several over one connection."""
    path = chance.choice(["/v1/reservations", "/v1/events", "/v1/decide"])
    stranger = await Stranger.open(target)
    told = []
    try:
        for _ in range(3):
            body = junk(chance)
            await stranger.say(request("POST", path, _key(target, chance), body=body))
            told += await stranger.replies(["POST"])
        return told
    finally:
        stranger.close()


async def large_pages(target: Target, chance: Random) -> list[Reply]:
    """Asks for all that a tenant has, with all that belongs to it."""
    path = "/v1/reservations?limit=200&include=metadata"
    key = b"X-Cycles-API-Key: %b" % target.api_key.encode()
    stranger = await Stranger.open(target)
    try:
        await stranger.say(request("GET", path, key, CLOSE))
        return await stranger.rest()
    finally:
        stranger.close()
