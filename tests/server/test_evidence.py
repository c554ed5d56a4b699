"""Evidence envelopes, the key set that verifies them, and the brake on both."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

JWKS = "/v1/.well-known/cycles-jwks.json"
KEY = "207a067892821e25d770f1fba0c47c11ff4b813e54162ece9eb839e076231ab6"
OLD = "aa" * 32


def get(running: Any, path: str) -> httpx.Response:
    return httpx.get(running.url + path)


# -- envelopes -----------------------------------------------------------------------------------


def test_an_envelope_is_served_byte_for_byte(running: Any) -> None:
    evidence_id = secrets.token_hex(32)
    envelope = {
        "signature": "0" * 128,
        "evidence_id": evidence_id,
        "schema_version": "cycles-evidence/v0.1",
        "artifact_type": "reserve",
        "server_id": "https://cycles.example/v1",
        "signer_did": KEY,
        "issued_at_ms": 1_760_000_000_000,
        "payload": {"reserve": {"x": "PLACE"}},
    }
    # Neither order, white space, escapes nor digits may change on the way.
    text = json.dumps(envelope, indent=1).replace('"PLACE"', '[1.0, 1e21, "\\u00e9", "\u00e9"]')
    running.redis.set(f"evidence:envelope:{evidence_id}", text.encode())
    response = get(running, f"/v1/evidence/{evidence_id}")
    assert response.status_code == 200
    assert response.content == text.encode()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["x-request-id"]
    assert response.headers["x-cycles-trace-id"]


@pytest.mark.parametrize("bad", ["a" * 63, "A" * 64, "g" * 64, "a" * 65])
def test_only_a_digest_is_an_id(running: Any, bad: str) -> None:
    response = get(running, f"/v1/evidence/{bad}")
    assert response.status_code == 400
    assert response.json()["error"] == "INVALID_REQUEST"


def test_a_damaged_envelope_is_not_served(running: Any) -> None:
    evidence_id = secrets.token_hex(32)
    running.redis.set(f"evidence:envelope:{evidence_id}", "{")
    assert get(running, f"/v1/evidence/{evidence_id}").status_code == 500


# -- keys ----------------------------------------------------------------------------------------


def test_no_key_set_without_a_signer(running: Any) -> None:
    response = get(running, JWKS)
    assert response.status_code == 404
    assert response.json()["error"] == "NOT_FOUND"


def test_the_key_set_is_public(start: Callable[..., Any]) -> None:
    running = start(
        EVIDENCE_SERVER_ID="https://cycles.example/v1",
        EVIDENCE_SIGNING_SIGNER_DID=KEY,
        EVIDENCE_SIGNING_RETIRED_KEYS=json.dumps(
            [{"signer_did": OLD, "kid": "old", "nbf_ms": 1, "exp_ms": 5}]
        ),
    )
    response = get(running, JWKS)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=300"
    active, retired = response.json()["keys"]
    assert active == {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "x": base64.urlsafe_b64encode(bytes.fromhex(KEY)).rstrip(b"=").decode(),
        "kid": KEY[:16],
        "cycles_nbf_ms": 5,
        "status": "active",
    }
    assert (retired["kid"], retired["status"]) == ("old", "retired")
    assert (retired["cycles_nbf_ms"], retired["cycles_exp_ms"]) == (1, 5)
    assert get(running, "/.well-known/cycles-jwks.json").status_code == 404


# -- the brake -----------------------------------------------------------------------------------


def test_too_many_requests_of_one_address(start: Callable[..., Any]) -> None:
    running = start(CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE="5")
    if time.time() % 60 > 55:
        time.sleep(6)  # let the next window begin
    paths = [f"/v1/evidence/{'0' * 64}", JWKS] * 4
    answers = [get(running, path) for path in paths]
    assert [answer.status_code for answer in answers] == [404] * 5 + [429] * 3
    refused = answers[-1]
    body = refused.json()
    assert body["error"] == "LIMIT_EXCEEDED"
    assert body["trace_id"] == refused.headers["x-cycles-trace-id"]
    assert refused.headers["x-ratelimit-remaining"] == "0"
    reset = int(refused.headers["x-ratelimit-reset"])
    assert reset % 60 == 0
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert abs(reset - int(refused.headers["retry-after"]) - time.time()) < 3
    # Nothing else is braked, and the counters do not stay.
    assert get(running, "/v1/balances").status_code == 401
    counters = running.redis.keys("cycles:rate:*")
    assert counters
    assert all(0 < running.redis.pttl(counter) <= 120_000 for counter in counters)


def test_the_brake_can_be_taken_off(start: Callable[..., Any]) -> None:
    running = start(
        CYCLES_PUBLIC_RATE_LIMIT_ENABLED="false", CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE="1"
    )
    assert [get(running, JWKS).status_code for _ in range(3)] == [404] * 3
