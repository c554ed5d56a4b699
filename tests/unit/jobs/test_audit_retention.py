"""Audit indexes: what is gone goes out, what somebody keeps for longer stays."""

from __future__ import annotations

import time

import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import Functions

from cycles_server.jobs.audit_retention import prune_audit
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, ReferenceLayout

DAY_MS = 86_400_000
OWNERS = ("acme", "other", "__unauth__", "__admin__")


class Places:
    """Entries by their owner and age, in both of their indexes."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client, self.keys = client, keys

    def put(self, owner: str, log_id: str, days: float, *, kept: bool = False) -> None:
        names = self.keys.tenant(owner)
        at = int(time.time() * 1000 - days * DAY_MS)
        for index in (names.audit_tenant_index, names.audit_index):
            self.client.zadd(index, {log_id: at})
        if kept:
            self.client.set(names.audit_entry(log_id), "{}", ex=600)

    def left(self) -> set[str]:
        """The ids in the indexes; both must have the same."""
        of_owners, of_all = [], []
        for owner in OWNERS:
            names = self.keys.tenant(owner)
            of_owners += self.client.zrange(names.audit_tenant_index, 0, -1)
        for bucket in self.keys.buckets():
            of_all += self.client.zrange(bucket.audit_index, 0, -1)
        assert sorted(of_owners) == sorted(of_all)
        return set(of_owners)


@pytest.fixture(params=[ReferenceLayout, BucketLayout])
def places(request: pytest.FixtureRequest, client: Redis) -> Places:
    return Places(client, Keys(request.param()))


@pytest.fixture
def prune(places: Places, empty_store: RedisServer) -> Functions:
    return Functions(empty_store.url, places.keys)


def test_what_has_lapsed_goes(places: Places, prune: Functions) -> None:
    for owner in OWNERS:
        places.put(owner, f"{owner}-gone", 31)
        places.put(owner, f"{owner}-kept", 31, kept=True)
        places.put(owner, f"{owner}-young", 29.9)
    # Each is in two indexes.
    assert prune(prune_audit, [400, 30]) == 2 * len(OWNERS)
    assert places.left() == {f"{owner}-{what}" for owner in OWNERS for what in ("kept", "young")}
    assert prune(prune_audit, [400, 30]) == 0


def test_the_shortest_time_counts_and_no_time_is_for_ever(places: Places, prune: Functions) -> None:
    places.put("acme", "a", 8)
    assert prune(prune_audit, [0, 0]) == 0
    assert prune(prune_audit, [30]) == 0
    assert prune(prune_audit, [0, 30]) == 0
    assert prune(prune_audit, [7, 0, 30]) == 2


def test_many(places: Places, prune: Functions) -> None:
    for number in range(1_100):
        places.put("acme", f"log_{number}", 40 + number / 1000, kept=not number % 100)
    assert prune(prune_audit, [30]) == 2 * (1_100 - 11)
    assert places.left() == {f"log_{number}" for number in range(0, 1_100, 100)}


def test_an_index_of_another_kind_holds_up_no_other(
    places: Places, prune: Functions, client: Redis
) -> None:
    places.put("acme", "a", 31)
    damaged = places.keys.tenant("damaged").audit_tenant_index
    client.set(damaged, "no index", ex=600)
    assert prune(prune_audit, [30]) == 2
    assert client.get(damaged) == "no index"
