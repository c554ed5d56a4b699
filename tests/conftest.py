"""Fixtures: one Redis and one server for the whole run; every test makes its own tenant."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.keyspace import KEPT_AUDIT, lasting
from support.redis import RedisServer, WatchedRedis, told_of
from support.running import Running, StartServer
from support.server import PATIENT, CyclesServer
from support.tenants import Tenant

# A job in the background inherits that Ctrl-C is ignored, and so would the servers of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = WatchedRedis(tmp_path_factory.mktemp("redis"), fsync="everysec")
    yield redis
    redis.stop()


@pytest.fixture(autouse=True)
def _nothing_stays_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test on the shared store fails where it leaves a key without an expiry that may not stay.

    A reservation that ends later is looked at when the run is over. A store that a test starts
    for itself is looked at when it is stopped (``RedisServer.stop``). Those of the tests of the
    doctor and of the embedded store are not: the one damages records by hand, and the other has
    to do with the process, not with what it holds.
    """
    store = request.getfixturevalue("store") if "store" in request.fixturenames else None
    yield
    if isinstance(store, WatchedRedis):
        left = lasting(store.client, store.new_keys())
        store.told.update(left)
        assert not left, told_of(left)


@pytest.fixture(scope="session")
def running(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = CyclesServer(store.url, tmp_path_factory.mktemp("server") / "log", settings=PATIENT)
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


def _starting(folder: Path) -> Iterator[StartServer]:
    started: list[Running] = []

    def begin(*redis_options: str, arguments: tuple[str, ...] = (), **settings: str) -> Running:
        number = len(started)
        redis = RedisServer(folder / f"redis{number}", *redis_options)
        if settings.get("AUDIT_RETENTION_DAYS") == "0":
            redis.may_stay = KEPT_AUDIT
        server = CyclesServer(
            redis.url, folder / f"server{number}.log", arguments=arguments, settings=settings
        )
        started.append(Running(server, redis))
        return started[-1]

    yield begin
    with ExitStack() as stack:  # one that fails keeps no other from being stopped
        for running in started:
            stack.callback(running.store.stop)
            stack.callback(running.server.stop)
            stack.callback(running.store.resume)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Start a server with a store of its own, for tests that break either."""
    yield from _starting(tmp_path)


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """The same for a module whose tests break it one after the other, and mend it again."""
    yield from _starting(tmp_path_factory.mktemp("own"))
