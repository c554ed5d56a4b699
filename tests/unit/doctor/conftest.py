"""Fixtures: a store as `up` has it, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.stores import Functions

from cycles_server.embedded.store import EmbeddedError, EmbeddedRedis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with EmbeddedRedis(tmp_path_factory.mktemp("data"), fsync="everysec") as store:
            yield store.url
    except EmbeddedError as error:
        pytest.skip(str(error))


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    client: Redis = Redis.from_url(server, decode_responses=True)
    client.flushall()
    yield client
    for name, value in (("maxmemory-policy", "noeviction"), ("appendonly", "yes")):
        client.config_set(name, value)
    client.config_set("hash-max-listpack-value", 256)
    client.close()


@pytest.fixture
def do(server: str) -> Functions:
    return Functions(server)
