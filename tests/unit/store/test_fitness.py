"""Whether a store is fit, judged by what real ones say, and by what one could say."""

from __future__ import annotations

import pytest
from support.redis import RedisServer
from support.stores import on_store

from cycles_server.store.findings import ERROR, WARNING
from cycles_server.store.fitness import judge, read_info, server_version

FIT = {
    "redis_version": "7.4.0",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
}


def test_a_real_one(store: RedisServer) -> None:
    info = read_info(on_store(store.url, lambda opened: opened.read("INFO")))
    assert list(judge(info)) == []
    name, version = server_version(info)
    assert name in ("Redis", "Valkey")
    assert version == info[f"{name.lower()}_version"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"redis_version": "6.2.1"}, [("VERSION", ERROR)]),
        # Valkey says for whose sake it is which Redis.
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, []),
        ({"role": "slave"}, [("ROLE", ERROR)]),
        ({"maxmemory_policy": "allkeys-lru"}, [("EVICTION", ERROR)]),
        ({"aof_enabled": "0"}, [("PERSISTENCE", WARNING)]),
        ({"aof_last_write_status": "err"}, [("PERSISTENCE", ERROR)]),
        (
            {"role": "slave", "maxmemory_policy": "volatile-ttl"},
            [("ROLE", ERROR), ("EVICTION", ERROR)],
        ),
    ],
)
def test_what_is_found(change: dict[str, str], found: list[tuple[str, str]]) -> None:
    findings = list(judge({**FIT, **change}))
    assert [(finding.code, finding.level) for finding in findings] == found


def test_one_that_hides_its_facts_is_not_taken_for_fit() -> None:
    codes = [finding.code for finding in judge({"redis_version": "7.4.0"})]
    assert codes == ["ROLE", "EVICTION", "PERSISTENCE"]
