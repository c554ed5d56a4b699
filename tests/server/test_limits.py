"""Sizes, queries, paths and methods, where the contract leaves open how strict a server is."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.edges import (
    ANSWER_SECONDS,
    check_error,
    post_bytes,
    send_bytes,
)
from support.running import Running, StartServer
from support.tenants import Tenant, error_of, new_key

INVALID = (400, "INVALID_REQUEST")
PATH = "/v1/reservations"


def test_other_characters_in_a_subject_are_refused(tenant: Tenant) -> None:
    """The contract lets a server take them; what every server must do is in ``subjects.yaml``."""
    subjects: list[dict[str, Any]] = []
    for value in ("", " ", "a:b", "a/b", "a b", "é", "a\n", "a\x00", "\u0661", "a*", "{a}"):
        subjects += [{"tenant": tenant.name, "agent": value}, {"tenant": value}]
    for subject in subjects:
        for answer in (
            tenant.reserve(subject=subject),
            tenant.reserve(subject=subject, dry_run=True),
            tenant.decide(subject=subject),
            tenant.event(subject=subject),
        ):
            check_error(answer, *INVALID)


def test_odd_idempotency_keys(tenant: Tenant) -> None:
    for key in (":", "a:hash", "/", "\x01\x7f", "ü{a}*?[]", "😀", "a\r\nb", '"', "\\"):
        reservation = tenant.reserved(idempotency_key=key)
        assert tenant.get(reservation).json()["idempotency_key"] == key
        assert tenant.reserved(idempotency_key=key) == reservation


# -- sizes ---------------------------------------------------------------------------------------


def test_a_body_too_large(start: StartServer) -> None:
    running = start(CYCLES_MAX_BODY_BYTES="2000")
    tenant = running.tenant()
    tenant.budget()
    body = json.dumps(tenant.reserve_body())
    fits = body + " " * (2000 - len(body))

    def in_chunks(content: str) -> Iterator[bytes]:
        for start_ in range(0, len(content), 700):
            yield content[start_ : start_ + 700].encode()

    headers = {"Content-Type": "application/json"}
    for content in (fits, body):
        assert post_bytes(tenant, content).is_success
        assert tenant.http.post(PATH, content=in_chunks(content), headers=headers).is_success
    for too_much in (fits + " ", fits * 50, "x" * 2001):
        check_error(post_bytes(tenant, too_much), 413, "INVALID_REQUEST")
        answer = tenant.http.post(PATH, content=in_chunks(too_much), headers=headers)
        check_error(answer, 413, "INVALID_REQUEST")
    # Authentication comes before the size.
    nobody = {"X-Cycles-API-Key": "nobody"}
    assert tenant.http.post(PATH, content="x" * 2001, headers=nobody).status_code == 401
    # A length that is only announced is refused without waiting for the bytes.
    head = f"POST {PATH} HTTP/1.1\r\nHost: t\r\nX-Cycles-API-Key: {tenant.secret}\r\n"
    announced = f"{head}Content-Length: 99999999999\r\n\r\n".encode()
    check_error(send_bytes(running.server.port, announced), 413, "INVALID_REQUEST")


def test_a_body_that_breaks_off_is_no_request(running: Running, tenant: Tenant) -> None:
    body = json.dumps(tenant.reserve_body()).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: t\r\nX-Cycles-API-Key: {tenant.secret}\r\n"
        "Content-Type: application/json\r\n"
    ).encode()
    for unfinished in (
        head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body),
        head + b"Content-Length: %d\r\n\r\n%b" % (len(body) + 1, body),
    ):
        with socket.create_connection(("127.0.0.1", running.server.port), ANSWER_SECONDS) as client:
            client.sendall(unfinished)
            client.shutdown(socket.SHUT_WR)
            client.recv(65536)
        assert tenant.balances().json()["balances"][0]["reserved"]["amount"] == 0
    assert post_bytes(tenant, body).is_success


# -- queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "limit=",
        "limit=1.0",
        "limit=1e1",
        "limit=%2B5",
        "limit=+5",
        "limit=5%20",
        "limit=%D9%A1",
        "limit=%EF%BC%95",
        "limit=true",
        "limit=5&limit=5",
        "limit=5;limit=5",
        "agent=a&agent=b",
        "tenant=%ff",
        "agent=%c0%af",
        "%ff=1",
        "cursor=garbage",
        "sort_by=foo",
        "sort_dir=DESC",
        "idempotency_key=" + "x" * 257,
        "from=yesterday",
    ],
)
def test_a_query_that_is_refused(tenant: Tenant, query: str) -> None:
    check_error(tenant.http.get(f"{PATH}?{query}"), *INVALID)
    common = ("limit", "agent", "tenant", "cursor")
    if query.startswith(common):
        check_error(tenant.http.get(f"/v1/balances?app=x&{query}"), *INVALID)


def test_a_query_that_is_taken(tenant: Tenant) -> None:
    for query in (
        "",
        "&",
        "foo=1",
        "foo=1&foo=2",
        "limit=1",
        "limit=200",
        "limit=007",
        "agent=%zz",
    ):
        assert tenant.http.get(f"{PATH}?{query}").status_code == 200, query
    for query in ("agent=%00", "from=", "to=%20", "agent=", "cursor=", "include=", "li%6Dit=5"):
        assert tenant.http.get(f"{PATH}?{query}").status_code == 200, query
    for query in ("true", "false"):
        answer = tenant.balances(tenant=tenant.name, include_children=query)
        assert answer.status_code == 200
    for query in ("True", "1", "yes", "", "on"):
        answer = tenant.balances(tenant=tenant.name, include_children=query)
        check_error(answer, *INVALID)
    check_error(tenant.http.get("/v1/balances"), *INVALID)
    check_error(tenant.http.get("/v1/balances?agent=%20&tenant="), *INVALID)


# -- paths and methods ---------------------------------------------------------------------------


def test_ids_in_a_path(running: Running, tenant: Tenant) -> None:
    reservation = tenant.reserved()
    unknown = ("unknown", str(uuid.uuid4()), "x" * 128, "%20", "%00", "%ff", "%zz")
    unknown += (
        reservation.upper(),
        f"res_{reservation}",
        f"{reservation}%0a",
        "*",
        "😀",
        "%E2%80%AE",
    )
    unknown += ("%2F", f"{reservation}%2Fcommit", f"..%2freservations%2f{reservation}")
    for odd in (*unknown, "x" * 129, "%20" * 129, ""):
        expected = (404, "NOT_FOUND") if odd in unknown else INVALID
        body = {"idempotency_key": new_key()}
        actual = {"actual": {"unit": "TOKENS", "amount": 1}}
        check_error(tenant.http.get(f"{PATH}/{odd}"), *expected)
        for action, members in (
            ("commit", actual),
            ("release", {}),
            ("extend", {"extend_by_ms": 1}),
        ):
            answer = tenant.http.post(f"{PATH}/{odd}/{action}", json=body | members)
            check_error(answer, *expected)
    for dots in (".", ".."):  # which a client would resolve by itself
        head = f"GET {PATH}/{dots} HTTP/1.1\r\nHost: t\r\nX-Cycles-API-Key: {tenant.secret}\r\n\r\n"
        answer = send_bytes(running.server.port, head.encode())
        check_error(answer, 404, "NOT_FOUND")
    # An encoded slash never turns one operation into another.
    answer = tenant.http.post(f"{PATH}/{reservation}%2Frelease", json={"idempotency_key": "k"})
    check_error(answer, 404, "NOT_FOUND")
    assert tenant.get(reservation).json()["status"] == "ACTIVE"


ALLOWED = {
    "/v1/decide": "POST",
    "/v1/reservations": "GET, POST",
    "/v1/reservations/x": "GET",
    "/v1/reservations/x/commit": "POST",
    "/v1/reservations/x/release": "POST",
    "/v1/reservations/x/extend": "POST",
    "/v1/balances": "GET",
    "/v1/events": "POST",
    f"/v1/evidence/{'0' * 64}": "GET",
    "/v1/.well-known/cycles-jwks.json": "GET",
}


@pytest.mark.parametrize(("path", "allowed"), ALLOWED.items())
def test_methods(tenant: Tenant, path: str, allowed: str) -> None:
    methods = (
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "HEAD",
        "PROPFIND",
        "PURGE",
    )
    for method in methods:
        if method in allowed.split(", "):
            continue
        answer = tenant.http.request(method, path, content=b"{")
        assert answer.headers["allow"] == allowed
        assert answer.status_code == 405
        if method == "HEAD":
            assert answer.content == b""
        else:
            check_error(answer, 405, "INVALID_REQUEST")


def test_a_body_on_a_read_is_not_looked_at(tenant: Tenant) -> None:
    for content in (b"{", b"x" * 100_000, b'{"limit":0}'):
        answer = tenant.http.request("GET", "/v1/balances?app=x", content=content)
        assert answer.json() == {"balances": [], "has_more": False}
    assert error_of(tenant.http.request("GET", "/v1/nope", content=b"{"))[0] == 404
