"""Who may call: keys, their state, and the order in which a request is looked at."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import httpx
import pytest
from support.edges import OPERATIONS, check_error, prepare, prepare_all, send_bytes, warm_up
from support.running import Running
from support.tenants import Tenant, error_of

from cycles_server.auth import apikeys, records
from cycles_server.store.keys import Keys
from cycles_server.store.store import Store

MESSAGE = "A valid API key is required"
UNAUTHORIZED = (401, "UNAUTHORIZED")
PAST = "2026-01-01T00:00:00Z"


def refused(answer: httpx.Response) -> None:
    """The one answer to every failed authentication: it tells nothing of the reason."""
    body = check_error(answer, *UNAUTHORIZED)
    assert body["message"] == MESSAGE
    assert set(body) == {"error", "message", "request_id", "trace_id"}
    assert not {"x-cycles-tenant", "x-ratelimit-remaining"} & set(answer.headers)


def test_what_is_not_a_key(running: Running, tenant: Tenant) -> None:
    prefix = tenant.secret[:14]
    secrets: list[bytes] = [
        b"",
        b"x",
        b"cyc_live_unknown_secret",
        prefix.encode(),
        tenant.secret.encode() + b"x",
        prefix.encode() + b"0" * 27,
        prefix.encode() + b"y" * 59,
        prefix.encode() + b"y" * 5000,
        prefix.encode() + "ü€".encode(),
        prefix.encode() + b"\xff\xfe",
        tenant.secret.upper().encode(),
        f"{tenant.secret}, {tenant.secret}".encode(),
    ]
    requests = prepare_all(tenant)
    with httpx.Client(base_url=running.url) as stranger:
        for request in requests.values():
            refused(request.send(stranger))
            refused(request.send(stranger, Authorization=f"Bearer {tenant.secret}"))
        for secret in secrets:
            refused(requests["createReservation"].send(stranger, X_Cycles_API_Key=secret))
            refused(requests["getBalances"].send(stranger, X_Cycles_API_Key=secret))
    for value in (b"", b"   ", b"\t", prefix.encode() + b"\xa0"):
        line = b"GET /v1/reservations HTTP/1.1\r\nHost: t\r\nX-Cycles-API-Key: "
        refused(send_bytes(running.server.port, line + value + b"\r\n\r\n"))
    for request in requests.values():
        assert request.send(tenant.http, Authorization="Bearer x").is_success


CHANGES: dict[str, dict[str, Any]] = {
    "revoked": {"status": "REVOKED", "revoked_at": PAST},
    "revoked, status forgotten": {"revoked_at": PAST},
    "expired": {"expires_at": PAST},
    "marked as expired": {"status": "EXPIRED"},
    "another secret": {"key_hash": bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()},
    "damaged hash": {"key_hash": "$2b$04$short"},
    "hash of no text": {"key_hash": 7},
    "no status": {"status": None},
    "tenant of no text": {"tenant_id": 7},
    "unreadable expiry": {"expires_at": "soon"},
    "permissions of no list": {"permissions": {"reservations:create": True}},
    "filter of no list": {"scope_filter": "agent:bot"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_key_counts_at_once(tenant: Tenant, change: dict[str, Any]) -> None:
    warm_up(tenant)
    requests = prepare_all(tenant)
    finished = tenant.reserved()
    assert tenant.release(finished).is_success
    before = dict(tenant.key_record)
    tenant.write_key(**change)
    for request in requests.values():
        refused(request.send(tenant.http))
    # Also where the request would have failed in another way.
    refused(tenant.http.post("/v1/reservations", content=b"{"))
    refused(tenant.reserve(subject={"tenant": "somebody-else"}))
    refused(tenant.reserve(10**12))
    refused(tenant.commit("unknown", 1))
    refused(tenant.release(finished))
    refused(tenant.get("x" * 129))
    tenant.key_record = before
    tenant.write_key()
    for request in requests.values():
        assert request.send(tenant.http).is_success


def test_a_key_that_is_gone_or_no_record(running: Running, tenant: Tenant) -> None:
    warm_up(tenant)
    requests = prepare_all(tenant)
    name = tenant.names.api_key(tenant.key_id)
    for damage in ("", "{", "[]", '"text"', "\ud7ff", None):
        running.redis.delete(name)
        if damage is None:
            running.redis.rpush(name, "x")
        elif damage:
            running.redis.set(name, damage)
        for request in requests.values():
            refused(request.send(tenant.http))
    running.redis.delete(name)
    tenant.write_key()
    assert tenant.balances().is_success
    # The lookup is read for a secret that the server has not seen yet.
    for lookup in (b"\xff", b"", b"key_unknown"):
        secret = tenant.new_key()
        running.redis.set(tenant.keys.api_key_lookup(secret), lookup)
        refused(tenant.http.get("/v1/reservations", headers={"X-Cycles-API-Key": secret}))
    secret = tenant.new_key(key_id="key_of_another_name")
    for request in prepare_all(tenant).values():
        assert request.send(tenant.http, X_Cycles_API_Key=secret).is_success


def test_a_key_lapses_by_itself(tenant: Tenant) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    tenant.write_key(expires_at=soon.isoformat())
    assert tenant.reserve().is_success
    deadline = time.monotonic() + 10
    while (answer := tenant.reserve()).is_success:
        assert time.monotonic() < deadline
    refused(answer)
    refused(tenant.balances())
    tenant.write_key(expires_at="2999-01-01T00:00:00+02:00")
    assert tenant.reserve().is_success


def test_changes_that_do_not_concern_the_caller(tenant: Tenant) -> None:
    """The governance plane writes down when a key was used, also in the middle of a request."""
    warm_up(tenant)
    stop = threading.Event()

    def touch() -> None:
        turn = 0
        while not stop.wait(0.002):
            turn += 1
            tenant.write_key(last_used_at=f"2026-01-01T00:00:{turn % 60:02d}Z")
            tenant.record(updated_at=turn)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        for request in [prepare(tenant, operation) for operation in OPERATIONS for _ in range(5)]:
            answer = request.send(tenant.http)
            assert answer.is_success, answer.text
    finally:
        stop.set()
        toucher.join()


def test_the_order_of_checks(running: Running, tenant: Tenant) -> None:
    bad = b'{"idempotency_key":'
    nobody = {"X-Cycles-API-Key": "nobody"}
    http = tenant.http
    assert error_of(http.get("/v1/nope", headers=nobody)) == (404, "NOT_FOUND")
    assert http.put("/v1/reservations", headers=nobody).status_code == 405
    refused(http.post("/v1/reservations", content=bad, headers=nobody))
    refused(http.post("/v1/reservations/unknown/commit", json={}, headers=nobody))
    refused(http.get("/v1/reservations", params={"limit": "0"}, headers=nobody))
    tenant.write_key(permissions=[])
    assert error_of(http.post("/v1/reservations", content=bad)) == (403, "FORBIDDEN")
    assert error_of(http.get("/v1/balances")) == (403, "FORBIDDEN")
    tenant.write_key(permissions=None, scope_filter=["agent:bot"])
    mismatch = {"X-Idempotency-Key": "another"}
    foreign = tenant.reserve_body(subject={"tenant": "somebody-else"})
    answer = http.post("/v1/reservations", json={**foreign, "x": 1}, headers=mismatch)
    assert "x" in check_error(answer, 400, "INVALID_REQUEST")["message"]
    answer = http.post("/v1/reservations", json=foreign, headers=mismatch)
    assert "X-Idempotency-Key" in check_error(answer, 400, "INVALID_REQUEST")["message"]
    message = check_error(http.post("/v1/reservations", json=foreign), 403, "FORBIDDEN")["message"]
    assert "subject.tenant" in message
    other = running.tenant()
    other.budget()
    body = {"idempotency_key": "k", "actual": {"unit": "TOKENS", "amount": 1}}
    for reservation in ("unknown", other.reserved()):
        path = f"/v1/reservations/{reservation}/commit"
        check_error(http.post(path, json=body, headers=mismatch), 400, "INVALID_REQUEST")
    assert error_of(tenant.commit("unknown", 1)) == (404, "NOT_FOUND")
    assert error_of(tenant.commit(reservation, 1)) == (403, "FORBIDDEN")


def test_a_secret_is_hashed_once(
    running: Running, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bytes] = []

    def checkpw(secret: bytes, key_hash: bytes) -> bool:
        hashed.append(secret)
        return bcrypt.checkpw(secret, key_hash)

    monkeypatch.setattr(records, "bcrypt", type("Counted", (), {"checkpw": staticmethod(checkpw)}))

    async def many() -> None:
        store = Store(running.store.url, keys=Keys(), timeout_ms=5000)
        keys = apikeys.ApiKeys(store)
        await asyncio.gather(*(keys.authenticate(tenant.secret) for _ in range(50)))
        for turn in range(5):
            tenant.write_key(last_used_at=f"2026-01-01T00:00:0{turn}Z")
            await keys.authenticate(tenant.secret)
        keys.close()
        await store.close()

    asyncio.run(many())
    assert hashed == [tenant.secret.encode()]


def test_guesses_stand_in_nobodys_way(running: Running, tenant: Tenant) -> None:
    """Hashes that cost a quarter of a second each, and requests that pass them by."""
    warm_up(tenant)
    costly = bcrypt.hashpw(b"whatever", bcrypt.gensalt(12)).decode()
    victim, newcomer = running.tenant(), running.tenant()
    victim.write_key(key_hash=costly)
    newcomer.budget()

    def guess(number: int) -> httpx.Response:
        secret = f"{victim.secret[:14]}{number:027d}"
        return httpx.get(
            f"{running.url}/v1/reservations", headers={"X-Cycles-API-Key": secret}, timeout=60
        )

    with ThreadPoolExecutor(10) as pool:
        guesses = [pool.submit(guess, number) for number in range(10)]
        for _ in range(20):
            assert tenant.reserve().is_success
            assert tenant.balances().is_success
        # The first request of another key waits for one guess at most, not for all of them.
        assert newcomer.reserve().is_success
        assert not all(future.done() for future in guesses)
        for future in guesses:
            refused(future.result())


def test_too_many_guesses_on_one_key(running: Running) -> None:
    victim = running.tenant()
    victim.write_key(key_hash=bcrypt.hashpw(b"whatever", bcrypt.gensalt(8)).decode())

    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(base_url=running.url, timeout=60, limits=limits) as http:
            headers = [{"X-Cycles-API-Key": f"{victim.secret[:14]}{i:05d}"} for i in range(300)]
            return await asyncio.gather(
                *(http.get("/v1/reservations", headers=header) for header in headers)
            )

    answers = asyncio.run(flood())
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {401, 429}
    braked = check_error(answers[codes.index(429)], 429, "LIMIT_EXCEEDED")
    assert victim.name not in json.dumps(braked)
    assert answers[codes.index(429)].headers["retry-after"].isdigit()
    assert codes.count(401) >= 100
