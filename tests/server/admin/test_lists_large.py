"""Lists of many rows: a page costs what it shows, and nothing is missing from it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.adminlists import (
    BUDGETS,
    IDS,
    KEYS,
    POLICIES,
    TENANTS,
    ids,
    operators,
    put_key,
    put_policy,
    tenants_own,
)
from support.operator import Operator
from support.reading import CommandCount, Reader
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import Tenant

FEW, MANY = 300, 3_000


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An admin plane that nobody else works with."""
    folder: Path = tmp_path_factory.mktemp("lonely")
    store = RedisServer(folder / "redis", fsync="no")
    server = CyclesServer(store.url, folder / "log", arguments=("admin",))
    yield Operator(store.client, server.url)
    server.stop()
    store.stop()


@pytest.fixture
def operator(lonely: Operator) -> Operator:
    lonely.redis.flushall()
    return lonely


def put_budgets(tenant: Tenant, count: int, level: str = "agent") -> list[str]:
    """Budgets below the tenant's scope; their keys."""
    pipe = tenant.redis.pipeline(transaction=False)
    keys = []
    for number in range(count):
        scope = f"tenant:{tenant.name}/{level}:n{number:05d}"
        keys.append(tenant.names.budget(scope, "TOKENS"))
        row = {
            "ledger_id": str(uuid.uuid4()),
            "tenant_id": tenant.name,
            "scope": scope,
            "unit": "TOKENS",
            "allocated": 100,
            "remaining": 100 - number % 100,
            "spent": number % 100,
            "created_at": 1,
        }
        pipe.hset(keys[-1], mapping=row)
    pipe.sadd(tenant.names.budgets, *keys)
    pipe.execute()
    return keys


def scopes(reader: Reader, **params: object) -> list[str]:
    return [row["scope"] for row in reader.rows(BUDGETS, "ledgers", **params)]


def page_cost(operator: Operator, reader: Reader, path: str, **params: object) -> dict[str, int]:
    reader.page(path, **params)
    count = CommandCount(operator.redis)
    reader.page(path, **params)
    return count.spent()


@pytest.mark.parametrize("count", [FEW, MANY])
def test_a_page_of_budgets_costs_the_page(operator: Operator, count: int) -> None:
    tenant = operator.tenant()
    put_budgets(tenant, count)
    expected = {"scard": 2, "zcard": 1, "zrange": 1, "hmget": 11}
    for params in ({}, {"scope_prefix": f"tenant:{tenant.name}/agent:n00007"}):
        asked = {"tenant_id": tenant.name, "limit": 10, **params}
        cost = page_cost(operator, operators(operator), BUDGETS, **asked)
        assert cost == (expected if not params else {**expected, "zrange": 2, "hmget": 1})


@pytest.mark.parametrize("count", [FEW, MANY])
def test_a_page_of_tenants_keys_or_policies_costs_the_page(operator: Operator, count: int) -> None:
    tenant = operator.tenant()
    names = tenant.names
    pipe = operator.redis.pipeline(transaction=False)
    made = {"status": "ACTIVE", "created_at": "2026-01-01T00:00:00Z", "tenant_id": tenant.name}
    for number in range(count):
        name = f"n{number:05d}"
        row = {**made, "tenant_id": name, "name": name}
        pipe.set(operator.keys.tenant(name).record, json.dumps(row))
        pipe.sadd(operator.keys.tenants, name)
        row = {**made, "key_id": name, "key_prefix": "cyc_live_Abcde"}
        pipe.set(names.api_key(name), json.dumps(row))
        pipe.sadd(names.api_keys(), name)
        row = {**made, "policy_id": name, "scope_pattern": "agent:*"}
        pipe.set(names.policy(name), json.dumps(row))
        pipe.sadd(names.policies, name)
    pipe.execute()
    whose = {"tenant_id": tenant.name}
    for path, asked, more in (
        (TENANTS, {}, 1),
        (KEYS, whose, 1),
        (POLICIES, whose, 0),
    ):
        cost = page_cost(operator, operators(operator), path, limit=10, **asked)
        cost.pop("time", None)
        assert cost == {"scard": 2, "zcard": 1, "zrange": 1, "getrange": 11}
        found = ids(operators(operator), path, limit=100, **asked)
        assert len(found) == len(set(found)) == count + more
        assert found == sorted(found)


def test_all_pages_in_every_order(operator: Operator) -> None:
    tenant = operator.tenant()
    keys = put_budgets(tenant, 700)
    own = tenants_own(tenant)
    expected = [tenant.names.scope_and_unit(key)[0] for key in sorted(keys)]
    assert scopes(own, limit=97) == expected
    by_scope = {"sort_by": "scope", "sort_dir": "asc"}
    assert scopes(own, limit=97, **by_scope) == sorted(expected)
    rows = own.rows(BUDGETS, "ledgers", limit=100, sort_by="utilization", sort_dir="asc")
    spent = [row["spent"]["amount"] for row in rows]
    assert spent == sorted(spent)
    assert len(spent) == 700


def test_what_another_server_adds_and_removes_between_two_pages(operator: Operator) -> None:
    tenant = operator.tenant()
    keys = put_budgets(tenant, FEW)
    own = tenants_own(tenant)
    page = own.page(BUDGETS, limit=100)
    new = put_budgets(tenant, 5, "app")
    operator.redis.srem(tenant.names.budgets, keys[0], keys[150])
    operator.redis.delete(keys[0], keys[150])
    rest = scopes(own, limit=100, cursor=page["next_cursor"])
    shown = [row["scope"] for row in page["ledgers"]] + rest
    there = [key for key in keys if key != keys[150]]
    # New ones stand behind the agents, or before what was shown already.
    late = [key for key in new if key > keys[99]]
    wanted = sorted(there + late)
    assert shown == [tenant.names.scope_and_unit(key)[0] for key in wanted]
    assert len(scopes(own, limit=100)) == FEW - 2 + 5


def test_what_this_server_makes_is_in_order_at_once(operator: Operator) -> None:
    tenant = operator.tenant()
    put_budgets(tenant, FEW)
    own = tenants_own(tenant)
    own.page(BUDGETS)
    made = operator.budget(tenant, below="/agent:n00000-a")
    count = CommandCount(operator.redis)
    page = own.page(BUDGETS, limit=2)
    assert page["ledgers"][0] == made or page["ledgers"][1] == made
    assert "evalsha" not in count.spent()


def test_a_tenant_more_among_many(operator: Operator) -> None:
    pipe = operator.redis.pipeline(transaction=False)
    for number in range(FEW):
        name = f"n{number:05d}"
        row = {"tenant_id": name, "name": name, "status": "ACTIVE"}
        pipe.set(operator.keys.tenant(name).record, json.dumps(row))
        pipe.sadd(operator.keys.tenants, name)
    pipe.execute()
    reader = operators(operator)
    reader.page(TENANTS)
    made = operator.tenant()
    count = CommandCount(operator.redis)
    assert reader.page(TENANTS, search=made.name)["tenants"][0]["tenant_id"] == made.name
    assert "evalsha" not in count.spent()


@pytest.mark.parametrize(
    ("path", "put", "body"),
    [
        (KEYS, put_key, {"name": "new"}),
        (POLICIES, put_policy, {"name": "new", "scope_pattern": "agent:*"}),
    ],
)
def test_a_key_or_policy_more_among_many(
    operator: Operator, path: str, put: Callable[..., str], body: dict[str, str]
) -> None:
    tenant = operator.tenant()
    known = {put(tenant) for _ in range(FEW)}
    reader, whose = operators(operator), {"tenant_id": tenant.name}
    reader.page(path, **whose)
    made = operator.http.post(path, json={**whose, **body})
    assert made.status_code == 201, made.text
    count = CommandCount(operator.redis)
    found = set(ids(reader, path, limit=100, **whose))
    assert found - known >= {made.json()[IDS[path]]}
    assert "evalsha" not in count.spent()


def test_large_and_small_tenants_together(operator: Operator) -> None:
    wanted = []
    for letter, count in (("a", 2), ("b", FEW), ("c", 0), ("d", 3), ("e", FEW)):
        tenant = Tenant(operator.redis, operator.url, operator.keys, f"{letter}-tenant")
        tenant.record()
        if count:
            keys = put_budgets(tenant, count)
            wanted += [tenant.names.scope_and_unit(key)[0] for key in sorted(keys)]
    assert scopes(operators(operator), limit=64) == wanted
    assert sorted(scopes(operators(operator), limit=64, sort_by="debt")) == sorted(wanted)


def test_a_full_store_shows_its_lists(operator: Operator) -> None:
    tenant = operator.tenant()
    keys = put_budgets(tenant, FEW)
    operator.redis.config_set("maxmemory", 1)
    try:
        shown = scopes(operators(operator), tenant_id=tenant.name, limit=100)
    finally:
        operator.redis.config_set("maxmemory", 0)
    assert shown == [tenant.names.scope_and_unit(key)[0] for key in sorted(keys)]
    assert not operator.redis.exists(tenant.names.listed(tenant.names.budgets).twin)
