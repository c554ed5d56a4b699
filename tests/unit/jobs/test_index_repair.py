"""The index of reservations: what is missing comes in, what is gone goes out."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support.reading import DAY_MS, T0, put_reservation
from support.redis import RedisServer

from cycles_server.jobs.index_repair import prune_index, repair_index
from cycles_server.paging.walks import IndexWalk
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, ReferenceLayout
from cycles_server.store.store import Store

Run = Callable[[Callable[[Store], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A store that no server tends."""
    redis = RedisServer(tmp_path_factory.mktemp("redis"), fsync="no")
    yield redis
    redis.stop()


@pytest.fixture(params=[ReferenceLayout, BucketLayout])
def keys(request: pytest.FixtureRequest) -> Keys:
    return Keys(request.param())


@pytest.fixture
def run(store: RedisServer, keys: Keys) -> Run:
    """Runs a coroutine function on a store client of its own."""

    def runner(work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            client = Store(store.url, keys=keys, timeout_ms=2_000)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(main())

    return runner


def tenant_name() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def test_missing_rows_are_added(store: RedisServer, keys: Keys, run: Run) -> None:
    run(repair_index)
    redis = store.client
    tenants = [keys.tenant(tenant_name()) for _ in range(3)]
    pipe = redis.pipeline(transaction=False)
    expected: dict[str, dict[bytes, float]] = {names.index: {} for names in tenants}
    for place in range(900):
        names = tenants[place % 3]
        indexed = place % 2 == 0
        row = put_reservation(pipe, names, T0 + place, indexed=indexed)
        expected[names.index][row.encode()] = T0 + place
    pipe.execute()
    assert run(repair_index) == 450
    for names in tenants:
        assert dict(redis.zrange(names.index, 0, -1, withscores=True)) == expected[names.index]
    assert run(repair_index) == 0


def test_rows_that_no_list_could_show_stay_out(store: RedisServer, keys: Keys, run: Run) -> None:
    run(repair_index)
    redis = store.client
    names = keys.tenant(tenant_name())
    strange = put_reservation(redis, names, T0, indexed=False)
    redis.hset(names.reservation(strange), "created_at", "soon")
    nobody = put_reservation(redis, names, T0, indexed=False)
    redis.hdel(names.reservation(nobody), "tenant")
    redis.set(names.reservation(f"{uuid.uuid4()}"), "x", ex=60)
    assert run(repair_index) == 0
    assert redis.zcard(names.index) == 0


def test_what_has_outlived_its_time_is_dropped(store: RedisServer, keys: Keys, run: Run) -> None:
    run(prune_index)
    redis = store.client
    names = keys.tenant(tenant_name())
    now = int(time.time() * 1000)
    rows = {
        (age, kept): put_reservation(redis, names, now - age * DAY_MS)
        for age in (0, 30, 32, 400)
        for kept in (True, False)
    }
    pipe = redis.pipeline(transaction=False)
    for place in range(600):
        pipe.zadd(names.index, {str(uuid.uuid4()): now - 40 * DAY_MS - place % 3})
    pipe.execute()
    for (_, kept), row in rows.items():
        if not kept:
            redis.delete(names.reservation(row))
    assert run(prune_index) == 602
    left = {row.decode() for row in redis.zrange(names.index, 0, -1)}
    assert left == {row for (age, kept), row in rows.items() if kept or age < 31}


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_a_walk_sees_every_row_once(
    store: RedisServer, keys: Keys, run: Run, newest_first: bool, count: int
) -> None:
    names = keys.tenant(tenant_name())
    rows = sorted((T0 + place // 45, f"{place:05}") for place in range(140))
    store.client.zadd(names.index, {row: created for created, row in rows})

    async def walk(client: Store, **bounds: Any) -> list[tuple[int, str]]:
        steps = IndexWalk(client, names.index, newest_first=newest_first, **bounds)
        seen: list[tuple[int, str]] = []
        while batch := await steps.step(count):
            assert len(batch) <= count
            seen += batch
        return seen

    async def both(client: Store) -> None:
        ordered = rows[::-1] if newest_first else rows
        assert await walk(client) == ordered
        inside = [row for row in ordered if T0 + 1 <= row[0] <= T0 + 2]
        assert await walk(client, lowest=T0 + 1, highest=T0 + 2) == inside
        for place in (0, 44, 70, 139):
            after = ordered[place]
            assert await walk(client, after=after) == ordered[place + 1 :]
            narrow = await walk(client, after=after, lowest=T0 + 1, highest=T0 + 2)
            assert narrow == [row for row in ordered[place + 1 :] if row in inside]

    run(both)
