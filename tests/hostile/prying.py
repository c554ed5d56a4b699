"""Clients that look for what is not theirs."""

from __future__ import annotations

import string
from random import Random

from .stranger import LIVENESS, Reply, Stranger, Target, request

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
_PATHS = (
    *("/", "/.env", "/.git/config", "/wp-login.php", "/admin", "/robots.txt", "/favicon.ico"),
    *("/v1", "/v1/", "/v1/reservations", "/v1/reservations/x/commit", "/v1/balances", "/v2/x"),
    *("/actuator", "/actuator/env", "/actuator/prometheus", "/actuator/health", LIVENESS),
    *("/actuator/health/liveness/", "/actuator/../v1/balances", "//v1/balances", "/%2e%2e/%2e"),
    *("/api-docs", "/api-docs.yaml", "/swagger-ui.html", "/swagger-ui/index.html", "/openapi.json"),
    *("/v1/evidence/" + "0" * 64, "/v1/.well-known/cycles-jwks.json", "/%00", "/%ff%fe", "*"),
)
_LETTERS = string.ascii_letters + string.digits + "/._-%?&=;~"


async def scanner(target: Target, chance: Random) -> list[Reply]:
    """Goes through paths and methods, known and made up, over one connection after the other."""
    stranger = await Stranger.open(target)
    told = []
    try:
        for _ in range(chance.randrange(1, 20)):
            path = chance.choice(_PATHS)
            if chance.random() < 0.5:
                path = "/" + "".join(chance.choices(_LETTERS, k=chance.randrange(60)))
            method = chance.choice(_METHODS)
            await stranger.say(request(method, path, body=b"" if method == "POST" else None))
            replies = await stranger.replies([method])
            if not replies:
                break
            told += replies
        return told
    finally:
        stranger.close()


async def wrong_key(target: Target, chance: Random) -> list[Reply]:
    """Guesses keys: made up ones, and a known one with another end."""
    stranger = await Stranger.open(target)
    told = []
    try:
        for _ in range(chance.randrange(1, 10)):
            made_up = "".join(chance.choices(string.printable[:62], k=32))
            guess = chance.choice(["cyc_live_" + made_up, target.api_key[:-1] + "!", made_up, ""])
            key = b"X-Cycles-API-Key: %b" % guess.encode()
            operator = b"X-Admin-API-Key: %b" % made_up.encode()
            asked = chance.choice(
                [
                    request("GET", "/v1/balances?tenant=x", key),
                    request("GET", "/v1/reservations", key, operator),
                    request("POST", "/v1/reservations", key, body=b"{}"),
                    request("GET", "/actuator/prometheus", operator),
                    request("GET", "/api-docs", operator),
                ]
            )
            await stranger.say(asked)
            told += await stranger.replies(["GET"])
        return told
    finally:
        stranger.close()
