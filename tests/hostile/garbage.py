"""Clients that do not speak the language, or speak it so that two readers would differ."""

from __future__ import annotations

import contextlib
import ssl
from random import Random

from .half import reserve
from .stranger import CLOSE, LIVENESS, Reply, Stranger, Target, chunked, request

_END = request("GET", LIVENESS, CLOSE)
_HIDDEN = request("GET", LIVENESS)


async def _said(target: Target, data: bytes) -> list[Reply]:
    stranger = await Stranger.open(target)
    try:
        await stranger.say(data)
        return await stranger.rest()
    finally:
        stranger.close()


async def noise(target: Target, chance: Random) -> list[Reply]:
    data = chance.randbytes(chance.randrange(1, 5000))
    return await _said(target, data + chance.choice([b"", b"\r\n\r\n"]))


async def tls_hello(target: Target, chance: Random) -> list[Reply]:
    """The first message of a client that takes the port for one with TLS."""
    out = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="test")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    return await _said(target, out.read())


async def bad_chunks(target: Target, chance: Random) -> list[Reply]:
    key = chance.choice([b"X-Cycles-API-Key: %b" % target.api_key.encode(), b"X: x"])
    body = chance.choice(
        [
            b"x\r\n",
            b"-1\r\n \r\n0\r\n\r\n",
            b"0x1\r\n \r\n0\r\n\r\n",
            b"1\n \n0\n\n",
            b"2\r\n \r\n0\r\n\r\n" + _HIDDEN,
            b"fffffffffffffffff\r\n \r\n0\r\n\r\n",
            b"1 \r\n \r\n0\r\n\r\n" + b"\x00",
            b"1\r\n \r\n0\r\nX\r\n\r\n",
        ]
    )
    return await _said(target, chunked("/v1/reservations", key, body=body))


async def upgrade(target: Target, chance: Random) -> list[Reply]:
    """Offers another protocol, which nobody need take up."""
    offer = chance.choice(
        [
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
            (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
            (b"Connection: upgrade", b"Upgrade: TLS/1.0"),
        ]
    )
    first = chance.choice(
        [
            request("GET", LIVENESS, *offer),
            request("POST", "/v1/decide", *offer, body=b"{}"),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
    )
    return await _said(target, first + _END)


async def hidden(target: Target, chance: Random) -> list[Reply]:
    """A request inside another's body; no reply to it may come, so none may be a 200."""
    length = b"Content-Length: %d" % len(_HIDDEN)
    chunk = b"Transfer-Encoding: chunked"
    path = "/v1/reservations"
    data = chance.choice(
        [
            request("POST", path, CLOSE, body=_HIDDEN),
            request("GET", "/v1/balances", CLOSE, length) + _HIDDEN,
            request("POST", path, length, chunk) + b"0\r\n\r\n" + _HIDDEN,
            request("POST", path, b"Content-Length: 0", length) + _HIDDEN,
            request("POST", path, b"Content-Length: +%d" % len(_HIDDEN)) + _HIDDEN,
            request("POST", path, b"Content-Length : %d" % len(_HIDDEN)) + _HIDDEN,
            request("POST", path, b"Transfer-Encoding: xchunked") + b"0\r\n\r\n" + _HIDDEN,
            request("POST", path, b"X: a\nX: b") + _HIDDEN,
            chunked(path, CLOSE, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(_HIDDEN), _HIDDEN)),
        ]
    )
    return await _said(target, data)


async def good_then_bad(target: Target, chance: Random) -> list[Reply]:
    """Whole requests, and rubbish right behind them."""
    good = [reserve(target), request("GET", LIVENESS), request("GET", "/v1/balances")]
    bad = [chance.randbytes(50) + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
    data = b"".join(chance.choices(good, k=chance.randrange(1, 8)))
    return await _said(target, data + chance.choice(bad))


async def mutated(target: Target, chance: Random) -> list[Reply]:
    """A good request with a few other bytes in it."""
    data = bytearray(reserve(target))
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.choice([chance.randrange(256), 10, 13, 32, 58])
    return await _said(target, bytes(data) + _END)
