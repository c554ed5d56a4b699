"""Walks over a real index and a real set: each row that stays is seen once, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import on_store

from cycles_server.paging.cursors import Place
from cycles_server.paging.walks import IndexWalk, MergedWalk, SetWalk, Walk
from cycles_server.store.store import Store

INDEX, MEMBERS = "reservation:idx:acme:created_at_ms", "budgets:acme"
ROWS = [(time, f"id-{number}") for number, time in enumerate((1, 2, 2, 2, 5, 8, 8, 9))]


def walked(
    store: RedisServer,
    made: Callable[[Store], Walk],
    count: int,
    between: Callable[[], object] = lambda: None,
) -> list[list[Place]]:
    """The steps of a walk to its end; ``between`` is called after each of them."""

    async def work(opened: Store) -> list[list[Place]]:
        walk, steps = made(opened), []
        while batch := await walk.step(count):
            steps.append(list(batch))
            between()
        assert not await walk.step(count)
        return steps

    return on_store(store.url, work)


def index_walk(**options: Any) -> Callable[[Store], Walk]:
    return lambda store: IndexWalk(store, INDEX, **options)


def flat(steps: list[list[Place]]) -> list[Place]:
    return [place for step in steps for place in step]


@pytest.fixture
def rows(client: Redis) -> Redis:
    client.zadd(INDEX, {row_id: time for time, row_id in ROWS})
    return client


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_an_index_in_either_order(
    empty_store: RedisServer, rows: Redis, newest_first: bool, count: int
) -> None:
    steps = walked(empty_store, index_walk(newest_first=newest_first), count)
    assert flat(steps) == sorted(ROWS, reverse=newest_first)
    assert all(len(step) <= count for step in steps)


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_index_within_bounds_and_behind_a_place(
    empty_store: RedisServer, rows: Redis, newest_first: bool
) -> None:
    order = sorted(ROWS, reverse=newest_first)
    for lowest, highest in ((2, 8), (3, 4), (9, 9), (None, 2), (5, None)):
        inside = [
            row
            for row in order
            if (lowest is None or row[0] >= lowest) and (highest is None or row[0] <= highest)
        ]
        # Places inside and outside of the bounds, of rows and of none.
        for after in (*ROWS, (2, "id-1x"), (0, ""), (99, "")):
            ahead = [row for row in inside if (row < after if newest_first else row > after)]
            walk = index_walk(
                newest_first=newest_first, lowest=lowest, highest=highest, after=after
            )
            assert flat(walked(empty_store, walk, 2)) == ahead


def test_many_rows_of_one_millisecond(empty_store: RedisServer, client: Redis) -> None:
    """More of them than a step reads."""
    names = [f"id-{number:03d}" for number in range(200)]
    client.zadd(INDEX, {**dict.fromkeys(names, 7), "later": 8})
    steps = walked(empty_store, index_walk(newest_first=False), 3)
    assert flat(steps) == [*((7, name) for name in names), (8, "later")]
    behind = index_walk(newest_first=True, after=(7, "id-150"))
    assert flat(walked(empty_store, behind, 3)) == [(7, name) for name in names[149::-1]]


def test_rows_that_come_and_go_on_the_way(empty_store: RedisServer, rows: Redis) -> None:
    def disturb() -> None:
        rows.zrem(INDEX, "id-0", "id-1")  # seen already, so that every rank changes
        rows.zadd(INDEX, {"early": 0})

    steps = walked(empty_store, index_walk(newest_first=False), 2, disturb)
    assert flat(steps) == sorted(ROWS)


def set_walk(**options: Any) -> Callable[[Store], Walk]:
    def place_of(member: str) -> Place:
        return member[:1], member

    return lambda store: SetWalk(store, MEMBERS, place_of=place_of, **options)


@pytest.mark.parametrize("number", [3, 2500])
def test_a_set_in_order(empty_store: RedisServer, client: Redis, number: int) -> None:
    members = [f"{'ab'[n % 2]}{n:05d}" for n in range(number)]
    client.sadd(MEMBERS, *members)
    places = sorted((member[0], member) for member in members)
    everything = set_walk(admits=lambda _: True)
    assert flat(walked(empty_store, everything, 400)) == places
    some = set_walk(admits=lambda place: place[0] == "b", after=("b", "b00001"))
    assert flat(walked(empty_store, some, 400)) == [p for p in places if p > ("b", "b00001")]


def test_nothing_to_walk(empty_store: RedisServer) -> None:
    assert walked(empty_store, index_walk(newest_first=True), 5) == []
    assert walked(empty_store, set_walk(admits=lambda _: True), 5) == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 100])
@pytest.mark.parametrize("parts", [1, 2, 7, 300])
def test_several_walks_are_one(
    empty_store: RedisServer, client: Redis, newest_first: bool, count: int, parts: int
) -> None:
    """Rows of one millisecond, and walks that are empty or end early, make no difference."""
    rows = [(number // 3, f"id-{number:03}") for number in range(90)]
    for number, (time, row_id) in enumerate(rows):
        # The second half is all in the first of them.
        part = number * number % parts if number < 45 else 0
        client.zadd(f"{INDEX}:{part}", {row_id: time})
    merged: list[MergedWalk[int]] = []

    def made(store: Store) -> Walk:
        walks = {
            part: IndexWalk(store, f"{INDEX}:{part}", newest_first=newest_first)
            for part in range(parts)
        }
        merged.append(MergedWalk(walks, descending=newest_first))
        return merged[0]

    sources: dict[Place, int] = {}
    steps = walked(empty_store, made, count, lambda: sources.update(merged[0].sources))
    assert flat(steps) == sorted(rows, reverse=newest_first)
    assert max(map(len, steps)) <= count
    for (_, row_id), part in sources.items():
        assert client.zscore(f"{INDEX}:{part}", row_id) is not None
    assert len(sources) == len(rows)
    client.delete(*client.keys(f"{INDEX}:*"))


def test_no_walks_at_all(empty_store: RedisServer) -> None:
    nothing: dict[int, Walk] = {}
    assert walked(empty_store, lambda _: MergedWalk(nothing, descending=True), 5) == []
