"""How the server starts: what stops it says so in one line, and what it does with the port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.redis import RedisServer
from support.server import free_port
from support.wire import eventually

CONTRACT = Path(__file__).parents[2] / "openapi" / "cycles-protocol-v0.yaml"
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


def serve(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cycles_server", "--host", "127.0.0.1", *arguments]
    return subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(*arguments: str, **settings: str) -> tuple[int, str]:
    """Exit status of a server that does not start, and the one line that it says."""
    process = serve("--port", str(free_port()), *arguments, **settings)
    try:
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    lines = told.splitlines()
    assert len(lines) == 1, told
    return process.returncode, lines[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_PORT", "70000"),
        ("CYCLES_EXPIRY_INTERVAL_MS", "soon"),
        ("CYCLES_WORKERS", "0"),
        ("CYCLES_RESPONSE_VALIDATION", "strict"),
    ],
)
def test_a_setting_that_is_not_allowed(name: str, value: str) -> None:
    status, line = refused(**{name: value})
    assert status == 2
    assert name in line
    assert value in line


def test_a_port_that_is_taken(store: RedisServer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        status, line = refused("--port", port, REDIS_URL=store.url)
    assert status == 1
    assert f"127.0.0.1:{port}" in line


def test_of_two_servers_on_one_port_one_starts(store: RedisServer) -> None:
    port = str(free_port())
    both = [serve("--port", port, REDIS_URL=store.url) for _ in range(2)]
    try:
        eventually(lambda: any(process.poll() is not None for process in both))
        loser = next(process for process in both if process.poll() is not None)
        told = loser.communicate()[1]
        assert loser.returncode == 1
        assert "cannot listen" in told
        assert len(told.splitlines()) == 1
        live = f"http://127.0.0.1:{port}/actuator/health/liveness"
        assert httpx.get(live, timeout=20).status_code == 200
    finally:
        for process in both:
            process.kill()
            process.communicate()


@WORKERS
@pytest.mark.parametrize("change", ["absent", "not YAML", "not OpenAPI", "an operation too many"])
def test_a_contract_that_cannot_be_served(
    tmp_path: Path, store: RedisServer, change: str, workers: str
) -> None:
    spec = tmp_path / "contract.yaml"
    if change == "not YAML":
        spec.write_text("a: [")
    elif change == "not OpenAPI":
        spec.write_text("openapi: 3.1.0\n")
    elif change == "an operation too many":
        spec.write_text(
            CONTRACT.read_text().replace("operationId: createReservation", "operationId: fly")
        )
    arguments = ("--spec", str(spec), "--workers", workers)
    status, line = refused(*arguments, REDIS_URL=store.url)
    assert status == 2
    assert "contract.yaml" in line or "fly" in line


def test_a_store_that_would_evict(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis", "--maxmemory-policy", "allkeys-lru")
    try:
        status, line = refused(REDIS_URL=redis.url)
    finally:
        redis.stop()
    assert status == 2
    assert "allkeys-lru" in line


def test_connections_wait_while_the_server_starts(store: RedisServer) -> None:
    port = free_port()
    process = serve("--port", str(port), REDIS_URL=store.url)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/actuator/health", timeout=20)
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
        assert answer.status_code == 200
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def limited(start: Callable[..., Any]) -> Iterator[Any]:
    return start(CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE="3")


def test_nobody_escapes_the_limit_of_an_address_by_a_header(limited: Any) -> None:
    path = f"{limited.url}/v1/.well-known/cycles-jwks.json"
    statuses = [
        httpx.get(path, headers={"X-Forwarded-For": f"10.0.0.{number}"}).status_code
        for number in range(8)  # at most one of them begins a new minute's three
    ]
    assert 429 in statuses
