"""What is a request, and what is none: in one segment, and cut in two at every byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from support.running import Running
from support.server import ADMIN_KEY
from support.stream import LAST, statuses, talk, talk_in_two
from support.tenants import Tenant
from support.wire import Answer

PATHS = ("/v1/balances", "/v1/nowhere", "/actuator/info", "/actuator/health/liveness", "/api-docs")


def answered(running: Running, data: bytes, *, half_close: bool = False) -> list[Answer]:
    """The answers to these bytes, which must not depend on how they arrive."""
    all_ways = asyncio.run(talk_in_two(running.server.port, data, half_close=half_close))
    expected = statuses(all_ways[0])
    for answers in all_ways[1:]:
        assert statuses(answers) == expected
    return all_ways[0]


def refused(running: Running, data: bytes, names: str, *, behind: Sequence[int] = ()) -> None:
    """It is answered 400 in the error shape and the connection ends, whatever stands behind."""
    answers = answered(running, data + LAST)
    assert statuses(answers) == [*behind, 400]
    last = answers[-1]
    assert last.body["error"] == "INVALID_REQUEST"
    assert names in last.body["message"]
    assert set(last.body) == {"error", "message", "request_id", "trace_id"}
    assert last.headers["x-request-id"] == last.body["request_id"]
    assert last.headers["connection"] == "close"


def head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, "Host: test", *lines, "", ""]).encode()


def reserve(tenant: Tenant, *lines: str, key: bool = True) -> tuple[bytes, bytes]:
    """Head and body of a reserve of nothing, which may be repeated; without their framing."""
    body = json.dumps(tenant.reserve_body(0)).encode()
    keys = [f"X-Cycles-API-Key: {tenant.secret}"] if key else []
    more = ["Content-Type: application/json", *keys, *lines]
    return head("POST /v1/reservations HTTP/1.1", *more), body


def with_length(request: tuple[bytes, bytes]) -> bytes:
    start, body = request
    return start[:-2] + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(request: tuple[bytes, bytes], *trailers: str) -> bytes:
    start, body = request
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (body[:3], body[3:50], body[50:])
        if piece
    )
    end = "".join(f"{line}\r\n" for line in trailers).encode()
    return start[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + end + b"\r\n"


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")


@pytest.mark.parametrize("framed", [with_length, chunked])
def test_an_offer_to_upgrade_is_ignored(running: Running, tenant: Tenant, framed: object) -> None:
    data = framed(reserve(tenant, *OFFER))  # type: ignore[operator]
    first, last = answered(running, data + LAST)
    assert (first.status, first.body["decision"], last.status) == (200, "ALLOW", 200)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2"])
def test_an_offer_changes_no_answer(running: Running, path: str, protocol: str) -> None:
    plain = head(f"GET {path} HTTP/1.1")
    offer = head(f"GET {path} HTTP/1.1", "Connection: upgrade", f"Upgrade: {protocol}")
    expected = asyncio.run(talk(running.server.port, plain + LAST))
    assert statuses(answered(running, offer + LAST)) == statuses(expected)


@pytest.mark.parametrize("framed", [with_length, chunked])
def test_text_inside_a_body_is_no_request(running: Running, tenant: Tenant, framed: object) -> None:
    inside = head(
        f"GET /v1/balances?tenant={tenant.name} HTTP/1.1", f"X-Cycles-API-Key: {tenant.secret}"
    )
    start, _ = reserve(tenant, *OFFER, key=False)
    data = framed((start, inside + inside))  # type: ignore[operator]
    assert statuses(answered(running, data + LAST)) == [401, 200]


def test_trailers_are_no_headers(running: Running, tenant: Tenant) -> None:
    request = reserve(tenant, key=False)
    data = chunked(request, f"X-Cycles-API-Key: {tenant.secret}", "Host: x")
    assert statuses(answered(running, data + LAST)) == [401, 200]
    # A length that comes behind the body is no trailer but a trap.
    (answer,) = answered(running, chunked(reserve(tenant), "Content-Length: 3") + LAST)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    operators = chunked(
        (head("GET /actuator/info HTTP/1.1"), b"body"), f"X-Admin-API-Key: {ADMIN_KEY}"
    )
    assert statuses(answered(running, operators + LAST)) == [401, 200]


@pytest.mark.parametrize("blanks", ["{} ", "{}\t", "{} \t ", "  {}", "\t{}\t", "{}"])
def test_blanks_around_a_value_are_no_part_of_it(
    running: Running, tenant: Tenant, blanks: str
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    body = tenant.reserve_body(0)
    lines = [
        "X-Cycles-API-Key:" + blanks.format(tenant.secret),
        "X-Idempotency-Key:" + blanks.format(body["idempotency_key"]),
        "Content-Type:" + blanks.format("application/json"),
        "X-Cycles-Trace-Id:" + blanks.format(trace),
    ]
    content = json.dumps(body).encode()
    start = head("POST /v1/reservations HTTP/1.1", *lines)
    first, _ = answered(running, with_length((start, content)) + LAST)
    assert first.status == 200
    assert first.headers["x-cycles-trace-id"] == trace
    parent = "traceparent:" + blanks.format(f"00-{trace}-b7ad6b7169203331-01")
    operator = "X-Admin-API-Key:" + blanks.format(ADMIN_KEY)
    for path in ("/actuator/info", "/api-docs", "/v1/nowhere"):
        data = head(f"GET {path} HTTP/1.1", operator, parent)
        first, _ = asyncio.run(talk(running.server.port, data + LAST))
        assert first.status == (404 if path == "/v1/nowhere" else 200)
        assert first.headers["x-cycles-trace-id"] == trace


@pytest.mark.parametrize("path", PATHS)
def test_host(running: Running, path: str) -> None:
    line = f"GET {path} HTTP/1.1\r\n"
    refused(running, f"{line}\r\n".encode(), "Host")
    refused(running, f"{line}Host: a\r\nHost: a\r\n\r\n".encode(), "Host")
    for bad in ("a b", "a/b", "a@b", "a:b", "a,b", "[::1"):
        refused(running, f"{line}Host: {bad}\r\n\r\n".encode(), "Host")
    expected = asyncio.run(talk(running.server.port, head(line.strip()) + LAST))
    for good in ("", "a", "a:80", "[::1]:80", "a_b.example.", "xn--a-1.b"):
        data = f"{line}Host: {good}\r\n\r\n".encode()
        assert statuses(answered(running, data + LAST)) == statuses(expected)
    # HTTP/1.0 knew no Host, and ends the connection.
    old = f"GET {path} HTTP/1.0\r\n\r\n".encode()
    assert statuses(answered(running, old + LAST)) == statuses(expected)[:1]


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "gzip", "identity", "chunked, chunked", "chunked;a=b", "xchunked"]
)
def test_transfer_codings_that_are_not_understood(
    running: Running, tenant: Tenant, coding: str
) -> None:
    data = chunked(reserve(tenant)).replace(b"Encoding: chunked", b"Encoding: " + coding.encode())
    refused(running, data, "")


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 3"),
        ("Content-Length: 3", "Content-Length: 3"),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3, 3",),
        ("Content-Length: +3",),
        ("Content-Length: -3",),
        ("Content-Length: 0x3",),
        ("Content-Length: 99999999999999999999",),
        ("Content-Length:",),
        ("Transfer-Encoding : chunked",),
        ("X: a\r\n folded",),
        ("X: a\x00b",),
        ("X: a\rb",),
        (": nameless",),
        ("na me: x",),
    ],
)
def test_heads_that_two_readers_would_read_differently(
    running: Running, lines: tuple[str, ...]
) -> None:
    refused(running, head("POST /v1/reservations HTTP/1.1", *lines) + b"0\r\n\r\n", "")


@pytest.mark.parametrize(
    "first",
    [
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET /",
        "GET",
        "FOO1 / HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /ü HTTP/1.1",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "\x00" * 20,
    ],
)
def test_first_lines_that_are_none(running: Running, first: str) -> None:
    refused(running, head(first), "")


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5 \rhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_chunks_that_are_none(running: Running, tenant: Tenant, chunks: bytes) -> None:
    start, _ = reserve(tenant)
    refused(running, start[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, "")


def test_garbage_behind_good_requests(running: Running, tenant: Tenant) -> None:
    good = with_length(reserve(tenant))
    refused(running, good + b"garbage\r\n\r\n", "HTTP", behind=[200])
    refused(running, good * 3 + head("GET / HTTP/1.1", "Host: b"), "Host", behind=[200] * 3)


def test_many_requests_in_one_segment(running: Running, tenant: Tenant) -> None:
    request = with_length(reserve(tenant))
    data = request * 200 + LAST
    answers = asyncio.run(talk(running.server.port, data))
    assert statuses(answers) == [200] * 201
    pieces = [data[place : place + 1009] for place in range(0, len(data), 1009)]
    assert statuses(asyncio.run(talk(running.server.port, *pieces))) == [200] * 201


def test_nothing_is_read_behind_the_last_request(running: Running, tenant: Tenant) -> None:
    last = with_length(reserve(tenant, "Connection: close"))
    (only,) = answered(running, last + b"garbage\r\n\r\n" + LAST)
    assert (only.status, only.headers["connection"]) == (200, "close")


def test_a_client_that_ends_its_sending_side_is_answered(running: Running, tenant: Tenant) -> None:
    request = with_length(reserve(tenant))
    assert statuses(answered(running, request, half_close=True)) == [200]
    assert statuses(answered(running, request * 2, half_close=True)) == [200, 200]
    for path in PATHS:
        data = head(f"GET {path} HTTP/1.1")
        expected = statuses(asyncio.run(talk(running.server.port, data + LAST)))[:1]
        assert statuses(answered(running, data, half_close=True)) == expected


def test_a_client_that_ends_inside_a_request(running: Running, tenant: Tenant) -> None:
    request = with_length(reserve(tenant))
    before = tenant.http.get("/v1/reservations").json()
    for place in (5, 60, len(request) - 5):
        (answer,) = asyncio.run(talk(running.server.port, request[:place], half_close=True))
        assert (answer.status, answer.body["error"]) == (400, "INVALID_REQUEST")
        assert "ended" in answer.body["message"]
    assert tenant.http.get("/v1/reservations").json() == before


def test_continue_is_said_to_who_waits_for_it(running: Running, tenant: Tenant) -> None:
    start, body = reserve(tenant, "Expect: 100-continue")
    start = start[:-2] + b"Content-Length: %d\r\n\r\n" % len(body)

    async def trial() -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(start)
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(body + LAST)
        rest = await reader.read()
        writer.close()
        return interim, rest

    interim, rest = asyncio.run(trial())
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


def test_lines_before_a_request_are_skipped(running: Running) -> None:
    assert statuses(answered(running, b"\r\n\r\n" + head("GET /api-docs HTTP/1.1") + LAST)) == [
        401,
        200,
    ]


@pytest.mark.parametrize("name", ["Connection", "Proxy-Connection"])
def test_a_trailer_does_not_end_the_connection_behind_the_answer(
    running: Running, tenant: Tenant, name: str
) -> None:
    # Ignored by the answer and not by the parser, it would cost whatever request comes next.
    data = chunked(reserve(tenant), f"{name}: close")
    refused(running, data, f"{name}: stands behind the body")
