"""What every answer carries: ids, trace, tenant, limits, content type; and what none does."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.edges import (
    ERROR,
    HEX32,
    MUTATIONS,
    READS,
    check_error,
    check_ids,
    prepare,
    prepare_all,
    send_bytes,
)
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import Tenant, new_key

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "b7ad6b7169203331"
AUTHENTICATED = ("x-cycles-tenant", "x-ratelimit-remaining", "x-ratelimit-reset")


def answers(running: Running, tenant: Tenant) -> Iterator[httpx.Response]:
    """One of each kind that a client can get while the store is there."""
    http = tenant.http
    for request in prepare_all(tenant).values():
        yield request.send(http)
    yield http.post("/v1/reservations", content=b"{")
    yield http.get("/v1/balances", headers={"X-Cycles-API-Key": "nobody"})
    yield tenant.reserve(subject={"tenant": "somebody-else"})
    yield tenant.commit("unknown", 1)
    yield tenant.reserve(10**15)
    yield http.get("/")
    yield http.get("/v1/nope")
    yield http.get("/v1/reservations/x/y/z")
    yield http.put("/v1/reservations")
    yield http.post("/v1/decide", content=b" " * (2**20 + 1))
    yield http.get("/v1/evidence/" + "0" * 64)
    yield http.get("/v1/evidence/x")
    yield http.get("/v1/.well-known/cycles-jwks.json")
    for path in ("health", "health/liveness", "health/readiness", "info", "prometheus", "nope"):
        yield http.get(f"/actuator/{path}")
        yield http.get(f"/actuator/{path}", headers={"X-Admin-API-Key": ADMIN_KEY})
    for path in ("/api-docs", "/api-docs.yaml", "/swagger-ui.html", "/swagger-ui", "/swagger-ui/"):
        yield http.get(path)
        yield http.get(path, headers={"X-Admin-API-Key": ADMIN_KEY})
    yield http.post("/actuator/health")


def test_every_answer_has_ids(running: Running, tenant: Tenant) -> None:
    seen: set[str] = set()
    statuses = set()
    for answer in answers(running, tenant):
        check_ids(answer)
        assert not answer.is_redirect
        assert answer.status_code < 500, answer.text
        for name in ("x-request-id", "x-cycles-trace-id"):
            assert answer.headers[name] not in seen
            seen.add(answer.headers[name])
        statuses.add(answer.status_code)
        if answer.is_error:
            check_error(answer, answer.status_code, answer.json()["error"])
    assert {200, 201, 400, 401, 403, 404, 405, 409, 413} <= statuses


def test_a_failure_of_the_server_has_ids_too(start: StartServer) -> None:
    running = start()
    tenant = running.tenant()
    tenant.budget()
    assert tenant.reserve().is_success
    running.store.kill()
    for path in ("/v1/balances?tenant=x", "/v1/reservations/x", "/v1/reservations"):
        answer = tenant.http.get(path)
        check_error(answer, 500, "INTERNAL_ERROR")
        assert answer.headers["retry-after"].isdigit()
    check_error(tenant.reserve(), 500, "INTERNAL_ERROR")
    check_error(tenant.http.get("/v1/evidence/" + "0" * 64), 500, "INTERNAL_ERROR")
    down = tenant.http.get("/actuator/health/readiness")
    assert down.status_code == 503
    check_ids(down)


@pytest.mark.parametrize(
    "data",
    [
        b"FOO1 /v1/balances HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/balances?agent=\xd9\xa1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\nX-A: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: x\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_the_same_shape(running: Running, data: bytes) -> None:
    answer = send_bytes(running.server.port, data)
    check_error(answer, 400, "INVALID_REQUEST")
    assert answer.headers["connection"] == "close"
    assert "evil.example" not in answer.text


FRESH = "fresh"


@pytest.mark.parametrize(
    ("traceparent", "trace_id", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", OTHER, TRACE),
        (None, OTHER, OTHER),
        (None, None, FRESH),
        (f"00-{TRACE.upper()}-{SPAN}-01", None, FRESH),
        (f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", OTHER, OTHER),
        ("x" * 5000, None, FRESH),
        ("\u0661" * 55, None, FRESH),
        (None, "\u0661" * 32, FRESH),
    ],
)
def test_where_the_trace_id_comes_from(
    tenant: Tenant, traceparent: str | None, trace_id: str | None, expected: str
) -> None:
    headers = {"traceparent": traceparent, "X-Cycles-Trace-Id": trace_id}
    sent = {name: value.encode() for name, value in headers.items() if value is not None}
    for path in ("/v1/reservations", "/v1/reservations/unknown", "/v1/nope", "/actuator/health"):
        answer = tenant.http.get(path, headers=sent)
        found = answer.headers["x-cycles-trace-id"]
        assert HEX32.fullmatch(found)
        if expected != FRESH:
            assert found == expected
        elif trace_id or traceparent:
            assert found not in (TRACE, OTHER)
        if answer.is_error:
            assert answer.json()["trace_id"] == found


def test_authenticated_answers_name_the_tenant(running: Running, tenant: Tenant) -> None:
    requests = prepare_all(tenant)
    for operation in (*MUTATIONS, *READS, "decide"):
        answer = requests[operation].send(tenant.http)
        assert [answer.headers.get(name) for name in AUTHENTICATED] == [tenant.name, "-1", "0"]
        assert answer.headers["content-type"] == "application/json"
    other = running.tenant()
    other.budget()
    for answer in (
        tenant.http.post("/v1/reservations", content=b"{"),
        tenant.reserve(subject=other.subject()),
        tenant.commit("unknown", 1),
        tenant.release(other.reserved()),
        tenant.reserve(10**15),
        tenant.http.get("/v1/reservations", params={"tenant": other.name}),
        tenant.http.post("/v1/decide", content=b" " * (2**20 + 1)),
    ):
        assert answer.is_error
        assert [answer.headers.get(name) for name in AUTHENTICATED] == [tenant.name, "-1", "0"]
    for answer in (
        tenant.http.get("/v1/nope"),
        tenant.http.put("/v1/reservations"),
        tenant.http.get("/v1/reservations", headers={"X-Cycles-API-Key": "nobody"}),
        tenant.http.get("/v1/evidence/" + "0" * 64),
    ):
        assert not set(AUTHENTICATED) & set(answer.headers)


@pytest.mark.parametrize("operation", (*MUTATIONS, "decide"))
def test_another_idempotency_key_in_the_header(tenant: Tenant, operation: str) -> None:
    """An invalid request here, where the contract would also allow a mismatch. What an equal or an
    only key in the header means is the kit's to check (``headers.yaml``, ``bodies.yaml``)."""
    request = prepare(tenant, operation)
    assert request.body is not None
    key = str(request.body["idempotency_key"])
    for header in ("another", "x" * 256, "x" * 257, "", f"{key}, {key}", "\u00fc"):
        answer = request.send(tenant.http, X_Idempotency_Key=header.encode())
        assert "X-Idempotency-Key" in check_error(answer, 400, "INVALID_REQUEST")["message"]


def test_a_key_outside_ascii_in_a_header(tenant: Tenant) -> None:
    key = f"schlüssel-{new_key()}"
    body = tenant.reserve_body(idempotency_key=key)
    for encoding in ("utf-8", "latin-1"):
        headers = {"X-Idempotency-Key": key.encode(encoding)}
        assert tenant.http.post("/v1/reservations", json=body, headers=headers).is_success


SLASHES = (
    ("POST", "/v1/reservations/"),
    ("POST", "/v1/decide/"),
    ("POST", "//v1/reservations"),
    ("POST", "/v1//reservations"),
    ("POST", "/v1/reservations//commit"),
    ("POST", "/v1/reservations/%20/commit"),
    ("POST", "/v1/reservations/./commit"),
    ("POST", "/v1/reservations/x/../y"),
    ("GET", "/v1/reservations/"),
    ("GET", "/v1/balances/"),
    ("GET", "//evil.example/v1/balances"),
    ("GET", "http://evil.example/v1/nope"),
    ("GET", "/swagger-ui"),
    ("GET", "/swagger-ui/"),
    ("GET", "/swagger-ui//"),
    ("GET", "/actuator/"),
    ("GET", "/api-docs/"),
)


@pytest.mark.parametrize(("method", "path"), SLASHES)
def test_no_redirect_and_no_echo_of_the_host(
    running: Running, tenant: Tenant, method: str, path: str
) -> None:
    body = b'{"idempotency_key":"k","actual":{"unit":"TOKENS","amount":1}}'
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Host: evil.example\r\nX-Cycles-API-Key: {tenant.secret}\r\n"
        f"X-Admin-API-Key: {ADMIN_KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    answer = send_bytes(running.server.port, head.encode() + body)
    check_ids(answer)
    assert "evil.example" not in answer.text + str(answer.headers)
    if path.startswith("/swagger-ui") and "//" not in path:
        assert answer.status_code == 200
    else:
        assert answer.status_code in (400, 404, 405)
        assert ERROR.is_valid(answer.json())
        assert "reservations" not in answer.json()
