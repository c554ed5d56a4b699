"""Fixtures: a store that only the tests of one module use, and that each of them finds empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from support.redis import RedisServer, told_of
from support.stores import Functions


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"), fsync="no")
    yield redis
    redis.stop()


@pytest.fixture
def empty_store(own_store: RedisServer) -> Iterator[RedisServer]:
    own_store.client.flushall()
    yield own_store
    left = own_store.lasting()
    assert not left, told_of(left)


@pytest.fixture
def client(empty_store: RedisServer) -> Iterator[Redis]:
    """What is in the empty store, as texts."""
    with Redis.from_url(empty_store.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def do(empty_store: RedisServer) -> Functions:
    """Calls the server's own functions on the empty store."""
    return Functions(empty_store.url)
