"""How much a client may send before anybody looks at it, and how long it may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from support.running import Running, StartServer
from support.stream import LAST, statuses, talk
from support.tenants import Tenant
from support.wire import Answer, Wire

PATHS = ("/v1/balances", "/v1/nowhere", "/actuator/info", "/actuator/health/liveness", "/api-docs")
TARGET, HEAD, LINES = 16_384, 32_768, 100
SLICE = 16_384


def get(path: str, *lines: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path.encode(), b"Host: test", *lines, b"", b""])


def check(answer: Answer, status: int) -> None:
    assert (answer.status, answer.body["error"]) == (status, "INVALID_REQUEST")
    assert set(answer.body) == {"error", "message", "request_id", "trace_id"}
    assert answer.headers["connection"] == "close"


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [1 << 20, 4096])
def test_heads(running: Running, path: str, size: int) -> None:
    def told(data: bytes) -> Answer:
        answers = asyncio.run(talk(running.server.port, *in_pieces(data + LAST, size)))
        assert len(answers) == (1 if answers[0].status == 431 else 2)
        return answers[0]

    usual = told(get(path)).status
    longest = f"{path}?{'x' * (TARGET - len(path) - 1)}"
    assert told(get(longest)).status == usual
    check(told(get(longest + "x")), 431)

    fill = HEAD - len(path) - len("Hosttest") - 1
    assert told(get(path, b"X: " + b"x" * fill)).status == usual
    check(told(get(path, b"X: " + b"x" * (fill + 1))), 431)
    check(told(get(path, b"x" * (fill + 2) + b":")), 431)

    assert told(get(path, *[b"a:"] * (LINES - 1))).status == usual
    check(told(get(path, *[b"a:"] * LINES)), 431)
    check(told(get(path, *[b"a:"] * 20_000)), 431)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:",
    ],
)
def test_what_never_ends(running: Running, start: bytes) -> None:
    data = start + b"x" * (HEAD + 6 * SLICE)
    (answer,) = asyncio.run(talk(running.server.port, *in_pieces(data, 10_000)))
    check(answer, 431)


def test_trailers_and_chunk_extensions(running: Running, tenant: Tenant) -> None:
    start = get("/v1/balances", b"Transfer-Encoding: chunked")
    long = b"x" * (HEAD + 6 * SLICE)
    for rest in (b"0\r\nX: " + long, b"0\r\n" + b"a:\r\n" * 5000, b"1;x=" + long):
        answers = asyncio.run(talk(running.server.port, *in_pieces(start + rest, 10_000)))
        assert statuses(answers) == [401]  # told before: it is the body that breaks off


def test_bodies(running: Running, tenant: Tenant) -> None:
    key = f"X-Cycles-API-Key: {tenant.secret}".encode()
    text = json.dumps(tenant.reserve_body(0)).encode()
    limit = 1_048_576
    for body, expected in ((text.ljust(limit), 200), (text.ljust(limit + 1), 413)):
        lines = [key, b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
        start = get("/v1/reservations", *lines).replace(b"GET", b"POST", 1)
        # All of it is sent before the answer is looked at, as most clients do.
        answers = asyncio.run(talk(running.server.port, start + body + LAST))
        assert statuses(answers)[0] == expected
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        start = start.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        answers = asyncio.run(talk(running.server.port, *in_pieces(start + chunk + LAST, 65_000)))
        assert statuses(answers)[0] == expected
        if expected == 413:
            check(answers[0], 413)


def test_a_body_that_nobody_asked_for_ends(running: Running) -> None:
    """Answered before it has come, it is read on for as long as a body may be, and no further."""
    start = get("/v1/nowhere", b"Content-Length: 100000000")

    async def trial() -> None:
        wire = await Wire.open(running.server.port)
        wire.send(start)
        assert (await wire.answer()).status == 404
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(10):
                while True:
                    wire.send(b"x" * 65_536)
                    await wire.sent()

    asyncio.run(trial())


@pytest.fixture(scope="module")
def impatient(start_once: StartServer) -> Iterator[Running]:
    yield start_once(
        CYCLES_HEAD_TIMEOUT_SECONDS="1",
        CYCLES_BODY_TIMEOUT_SECONDS="1",
        CYCLES_IDLE_TIMEOUT_SECONDS="2",
        CYCLES_WRITE_TIMEOUT_SECONDS="1",
    )


def drip(port: int, start: bytes, rest: bytes) -> list[Answer]:
    """Send one byte of the rest at a time, for as long as it is taken."""

    async def trial() -> list[Answer]:
        wire = await Wire.open(port)
        wire.send(start)

        async def send() -> None:
            for place in range(len(rest)):
                wire.send(rest[place : place + 1])
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        try:
            answers = []
            while True:
                answers.append(await wire.answer())
        except (asyncio.IncompleteReadError, ConnectionError):
            return answers
        finally:
            sending.cancel()
            wire.close()

    return asyncio.run(trial())


@pytest.mark.parametrize("path", PATHS)
def test_a_head_that_takes_too_long(impatient: Running, path: str) -> None:
    data = get(path, b"X: " + b"x" * 300)
    for place in (1, len(data) - 200):
        (answer,) = drip(impatient.server.port, data[:place], data[place:])
        check(answer, 408)


def test_a_body_that_takes_too_long(impatient: Running) -> None:
    tenant = impatient.tenant()
    tenant.budget()
    key = f"X-Cycles-API-Key: {tenant.secret}".encode()
    lines = [key, b"Content-Type: application/json", b"Content-Length: 1000"]
    start = get("/v1/reservations", *lines).replace(b"GET", b"POST", 1)
    (answer,) = drip(impatient.server.port, start, b" " * 500)
    check(answer, 408)
    # Who has been answered before the body came is told nothing more.
    (answer,) = drip(impatient.server.port, start.replace(key, b"X: x"), b" " * 500)
    assert answer.status == 401


def test_silence(impatient: Running) -> None:
    """A new connection, blank lines, and the time behind an answer."""

    async def trial() -> None:
        for sent in (b"", b"\r\n\r\n"):
            wire = await Wire.open(impatient.server.port)
            wire.send(sent)
            assert await wire.closed()
        wire = await Wire.open(impatient.server.port)
        for _ in range(3):
            assert (await wire.call("GET", "/actuator/health/liveness")).status == 200
            await asyncio.sleep(1)  # less than it may
        assert await wire.closed()

    asyncio.run(trial())


def test_answers_that_nobody_reads(impatient: Running) -> None:
    """The connection is cut, and the memory that the answers took comes back."""
    port = impatient.server.port
    request = get("/api-docs", b"X-Admin-API-Key: operator-secret") * 50

    async def trial() -> None:
        wires = [await Wire.open(port, read_ahead=1024) for _ in range(20)]
        for wire in wires:
            wire.send(request)
        await asyncio.sleep(3)
        for wire in wires:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                for _ in range(50):
                    await wire.answer()

    asyncio.run(trial())
    liveness = httpx.get(f"{impatient.url}/actuator/health/liveness")
    assert liveness.status_code == 200
