"""The check of large lists' order: every twin has its set's members again."""

from __future__ import annotations

import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import on_store

from cycles_server.jobs.twin_upkeep import tend_twins
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, ReferenceLayout


@pytest.mark.parametrize("layout", [ReferenceLayout, BucketLayout])
def test_every_twin_is_compared(
    empty_store: RedisServer,
    client: Redis,
    layout: type[ReferenceLayout] | type[BucketLayout],
) -> None:
    keys = Keys(layout())
    names = [keys.tenant(tenant) for tenant in ("a", "b", "c", "d")]
    listed = [
        keys.listed_tenants,
        names[0].listed(names[0].budgets),
        names[1].listed(names[1].api_keys()),
        names[2].listed(names[2].policies),
    ]
    members = [f"m{number:04d}" for number in range(600)]
    for one in listed:
        client.sadd(one.members, *members[1:])
        client.zadd(one.twin, dict.fromkeys(members[:-1], 0))
    untouched = names[3].listed(names[3].budgets)
    client.sadd(untouched.members, *members)
    gone = names[3].listed(names[3].policies)
    client.zadd(gone.twin, {"m": 0})
    assert on_store(empty_store.url, tend_twins, keys) == 2 * len(listed) + 1
    for one in listed:
        assert client.zrange(one.twin, 0, -1) == members[1:]
    assert not client.exists(untouched.twin, gone.twin)
    assert on_store(empty_store.url, tend_twins, keys) == 0


def test_what_is_no_twin_is_passed_by(empty_store: RedisServer, client: Redis) -> None:
    names = Keys().tenant("a")
    odd, good = names.listed(names.budgets), names.listed(names.policies)
    client.set(odd.twin, "x")
    client.set(names.listed(names.api_keys()).members, "x")
    client.zadd(names.listed(names.api_keys()).twin, {"m": 0})
    client.sadd(good.members, "new")
    client.zadd(good.twin, {"old": 0})
    assert on_store(empty_store.url, tend_twins) == 2
    assert client.zrange(good.twin, 0, -1) == ["new"]
    client.flushall()
