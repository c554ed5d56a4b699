"""Walks over sets with and without twins, in a real store."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import on_store

from cycles_server.paging.cursors import Place
from cycles_server.paging.members import MembersWalk
from cycles_server.paging.twins import SMALL, align, compare
from cycles_server.paging.walks import LexWalk, Span, Walk
from cycles_server.store.keys import Keys, Listed
from cycles_server.store.layout import BucketLayout, ReferenceLayout
from cycles_server.store.store import Store

KEYS = Keys()
BUDGETS = KEYS.tenant("acme").listed("budgets:acme")
LARGE = SMALL + 1


def budgets_of(tenant: str) -> Listed:
    names = KEYS.tenant(tenant)
    return names.listed(names.budgets)


def walked(
    store: RedisServer, made: Callable[[Store], Walk], count: int, keys: Keys = KEYS
) -> list[Place]:
    """All places of a walk, in steps of ``count`` at most."""

    async def work(opened: Store) -> list[Place]:
        walk, found = made(opened), []
        while batch := await walk.step(count):
            assert len(batch) <= count
            found += batch
        assert not await walk.step(count)
        return found

    return on_store(store.url, work, keys)


def done(store: RedisServer, work: Callable[[Store], Awaitable[Any]]) -> Any:
    return on_store(store.url, work)


def twin_of(client: Redis, listed: Listed) -> list[str]:
    members: list[str] = client.zrange(listed.twin, 0, -1)
    return members


# -- along a sorted set ----------------------------------------------------------------------------

NAMES = ["", "a", "a/", "a/b", "a0", "a:", "a:x", "b", "B", "é", "z"]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_members_by_their_bytes(empty_store: RedisServer, client: Redis, count: int) -> None:
    client.zadd(BUDGETS.twin, dict.fromkeys(NAMES, 0))
    order = sorted(NAMES, key=str.encode)
    for after in (None, "a", "a/a", "\x00", "zz"):
        expected = [("g", name) for name in order if after is None or name > after]

        def walk(store: Store, after: str | None = after) -> Walk:
            return LexWalk(store, BUDGETS.twin, group="g", after=after)

        assert walked(empty_store, walk, count) == expected


@pytest.mark.parametrize("count", [1, 2, 100])
def test_members_within_spans(empty_store: RedisServer, client: Redis, count: int) -> None:
    client.zadd(BUDGETS.twin, dict.fromkeys(NAMES, 0))
    spans = [("a/", "a0"), ("a:", "a;")]
    inside = ["a/", "a/b", "a:", "a:x"]
    for after in (None, "", "a/", "a/b", "a0", "a:", "b"):
        expected = [("", name) for name in inside if after is None or name > after]

        def walk(store: Store, after: str | None = after) -> Walk:
            return LexWalk(store, BUDGETS.twin, spans=spans, after=after)

        assert walked(empty_store, walk, count) == expected


# -- twins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 3_000])
def test_a_twin_is_made_whole(empty_store: RedisServer, client: Redis, size: int) -> None:
    members = [f"m{number:05d}" for number in range(size)]
    client.sadd(BUDGETS.members, *members)
    done(empty_store, lambda store: align(store, "acme", BUDGETS))
    assert twin_of(client, BUDGETS) == members


def test_a_twin_gets_what_came_and_loses_what_went(empty_store: RedisServer, client: Redis) -> None:
    members = [f"m{number:05d}" for number in range(2_000)]
    client.sadd(BUDGETS.members, *members)
    done(empty_store, lambda store: align(store, "acme", BUDGETS))
    for came, went in ((["x"], []), ([], ["m00003"]), (["y", "z"], ["x"]), ([], members[10:20])):
        for member in came:
            client.sadd(BUDGETS.members, member)
        for member in went:
            client.srem(BUDGETS.members, member)
        done(empty_store, lambda store: align(store, "acme", BUDGETS))
        assert twin_of(client, BUDGETS) == sorted(client.smembers(BUDGETS.members))


def test_a_twin_that_is_as_long_is_left_alone_but_by_the_comparison(
    empty_store: RedisServer, client: Redis
) -> None:
    client.sadd(BUDGETS.members, *(f"m{number}" for number in range(700)))
    done(empty_store, lambda store: align(store, "acme", BUDGETS))
    client.srem(BUDGETS.members, "m1")
    client.sadd(BUDGETS.members, "new")
    done(empty_store, lambda store: align(store, "acme", BUDGETS))
    assert "new" not in twin_of(client, BUDGETS)
    assert done(empty_store, lambda store: compare(store, "acme", BUDGETS, 0)) == 2
    assert twin_of(client, BUDGETS) == sorted(client.smembers(BUDGETS.members))
    assert done(empty_store, lambda store: compare(store, "acme", BUDGETS, 0)) == 0


# -- set after set ---------------------------------------------------------------------------------


@pytest.fixture(params=[ReferenceLayout, BucketLayout])
def keys(request: pytest.FixtureRequest) -> Keys:
    return Keys(request.param())


SIZES = {"a": 3, "b": 0, "c": LARGE, "d": 1, "e": SMALL, "f": 2 * LARGE, "g": 5}


def filled(client: Redis, keys: Keys) -> list[Place]:
    """Sets of all sizes, and what they hold in order."""
    places: list[Place] = []
    for tenant, size in SIZES.items():
        members = [f"{tenant}{number:04d}" for number in range(size)]
        random.shuffle(members)
        if members:
            client.sadd(keys.tenant(tenant).budgets, *members)
        places += [(tenant, member) for member in sorted(members)]
    return places


@pytest.mark.parametrize("count", [1, 7, SMALL])
def test_many_sets(empty_store: RedisServer, client: Redis, keys: Keys, count: int) -> None:
    places = filled(client, keys)
    client.sadd(keys.tenants, *SIZES)

    def listed(tenant: str) -> Listed:
        names = keys.tenant(tenant)
        return names.listed(names.budgets)

    def tenants(store: Store, after: Place | None = None) -> MembersWalk:
        return MembersWalk(store, lambda _: keys.listed_tenants, [""], after=after)

    whole = walked(empty_store, lambda s: MembersWalk(s, listed, [], more=tenants(s)), count, keys)
    assert whole == places
    if count == 1:
        return
    for after in (places[0], places[2], places[3], places[100], places[-1], ("d", ""), ("h", "")):

        def behind(store: Store, after: Place = after) -> Walk:
            more = tenants(store, ("", after[0]))
            return MembersWalk(store, listed, [after[0]], more=more, after=after)

        assert walked(empty_store, behind, count, keys) == [p for p in places if p > after]


def test_small_sets_have_no_twin(empty_store: RedisServer, client: Redis) -> None:
    filled(client, KEYS)
    walked(empty_store, lambda store: MembersWalk(store, budgets_of, sorted(SIZES)), 100)
    twins = set(client.scan_iter(match=KEYS.twin_pattern()))
    assert twins == {budgets_of("c").twin, budgets_of("f").twin}


def test_spans_are_looked_at_alone(empty_store: RedisServer, client: Redis) -> None:
    filled(client, KEYS)

    def spans(tenant: str) -> Sequence[Span]:
        return [(f"{tenant}0003", f"{tenant}0005")]

    def walk(store: Store) -> Walk:
        return MembersWalk(store, budgets_of, ["c"], spans=spans)

    assert walked(empty_store, walk, 5) == [("c", "c0003"), ("c", "c0004")]


def test_a_store_that_takes_no_writes_is_read_all_the_same(
    empty_store: RedisServer, client: Redis
) -> None:
    places = filled(client, KEYS)
    client.config_set("maxmemory", 1)
    try:
        walk = walked(empty_store, lambda s: MembersWalk(s, budgets_of, sorted(SIZES)), 100)
        behind = walked(
            empty_store,
            lambda s: MembersWalk(s, budgets_of, ["c"], after=("c", "c0100")),
            100,
        )
    finally:
        client.config_set("maxmemory", 0)
    assert walk == places
    assert behind == [place for place in places if ("c", "c0100") < place < ("d", "")]
    assert client.exists(budgets_of("c").twin) == 0


def test_names_of_twins_lead_back(keys: Keys) -> None:
    names = keys.tenant("acme")
    for members in (names.budgets, names.api_keys(), names.policies):
        assert keys.listed_by_twin(names.listed(members).twin) == names.listed(members)
    assert keys.listed_by_twin(keys.listed_tenants.twin) == keys.listed_tenants
