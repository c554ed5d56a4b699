"""Fixtures: one Redis and one server for the whole run; every test makes its own tenant."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from support.keyspace import KEPT_AUDIT, WatchedRedis, every_key, lasting
from support.redis import RedisServer
from support.running import Running, StartServer
from support.server import CyclesServer
from support.tenants import Tenant


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = WatchedRedis(tmp_path_factory.mktemp("redis"), fsync="everysec")
    yield redis
    left = set(lasting(redis.client, every_key(redis.client))) - redis.told
    redis.stop()
    assert not left, _left("the whole run", sorted(left))


@pytest.fixture(autouse=True)
def _nothing_stays_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test on the shared store fails where it leaves a key without an expiry that may not stay.

    A reservation that ends later is looked at when the run is over.
    """
    store = request.getfixturevalue("store") if "store" in request.fixturenames else None
    yield
    if isinstance(store, WatchedRedis):
        left = lasting(store.client, store.new_keys())
        store.told.update(left)
        assert not left, _left(request.node.nodeid, left)


def _left(by: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if keys[5:] else "")
    return f"{by} left keys without an expiry that may not stay (support/keyspace.py): {shown}"


@pytest.fixture(scope="session")
def running(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = CyclesServer(store.url, tmp_path_factory.mktemp("server") / "log")
    yield Running(server, store)
    server.stop()


@pytest.fixture
def tenant(running: Running) -> Tenant:
    """A tenant with a budget of 1,000,000 tokens."""
    tenant = running.tenant()
    tenant.budget()
    return tenant


_CROWD_FILES = 6000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the connections of a crowd on the client's side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _CROWD_FILES)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("too few open files allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _starting(folder: Path, name: str) -> Iterator[StartServer]:
    started: list[tuple[Running, dict[str, str]]] = []

    def begin(*redis_options: str, arguments: tuple[str, ...] = (), **settings: str) -> Running:
        number = len(started)
        redis = RedisServer(folder / f"redis{number}", *redis_options)
        server = CyclesServer(
            redis.url, folder / f"server{number}.log", arguments=arguments, settings=settings
        )
        running = Running(server, redis)
        started.append((running, KEPT_AUDIT if settings.get("AUDIT_RETENTION_DAYS") == "0" else {}))
        return running

    yield begin
    left: list[str] = []
    for running, more in started:
        running.store.resume()
        running.server.stop()
        with suppress(RedisError, OSError):  # not where the test has killed its store
            left += lasting(running.redis, every_key(running.redis), more)
        running.store.stop()
    assert not left, _left(name, left)


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Start a server with a store of its own, for tests that break either."""
    yield from _starting(tmp_path, request.node.nodeid)


@pytest.fixture(scope="module")
def start_once(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[StartServer]:
    """The same for a module whose tests break it one after the other, and mend it again."""
    yield from _starting(tmp_path_factory.mktemp("own"), request.node.nodeid)
