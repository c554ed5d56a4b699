"""Pages of the admin plane with much in them: they end by bytes, and nothing is lost or doubled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.adminlists import (
    BUDGETS,
    IDS,
    KEYS,
    MEMBERS,
    POLICIES,
    TENANTS,
    Body,
    Family,
    operators,
    put_budget,
    put_key,
    put_policy,
)
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT

PAGE_BYTES = 20_000
READ_TOGETHER = 16_384
"""Bytes of a record up to which it comes with the first answer of the store."""
SIZES = (0, 1, 300, 4_400, 9_000, 15_000, 25_000, 60_000)


@pytest.fixture(scope="module")
def operator(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    server = CyclesServer(
        store.url,
        tmp_path_factory.mktemp("admin") / "log",
        arguments=("admin",),
        settings={"CYCLES_MAX_PAGE_BYTES": str(PAGE_BYTES)},
    )
    yield Operator(store.client, server.url)
    server.stop()


Put = Callable[[str, int], str]
"""Puts a record with a text of so many bytes somewhere in it; its id."""


def listed(operator: Operator, path: str) -> tuple[Body, Put]:
    """What a list is to be asked, and how a row gets there."""
    family = Family(operator)
    if path == TENANTS:
        return {
            "parent_tenant_id": family.parent
        }, lambda name, size: family.child(name=name, metadata={"x": "x" * size}).name
    tenant = family.child()
    put: dict[str, Put] = {
        KEYS: lambda name, size: put_key(tenant, name=name, metadata={"x": "x" * size}),
        POLICIES: lambda name, size: put_policy(tenant, name=name, of_another_server="x" * size),
        BUDGETS: lambda name, size: put_budget(
            tenant, f"/agent:{name}", rollover_policy="x" * size
        ),
    }
    return {"tenant_id": tenant.name}, put[path]


def pages(operator: Operator, path: str, **params: Any) -> list[list[str]]:
    """The ids of each page."""
    reader = operators(operator)
    turned = []
    while True:
        page = reader.page(path, **params)
        turned.append([row[IDS[path]] for row in page[MEMBERS[path]]])
        if not page["has_more"]:
            return turned
        params["cursor"] = page["next_cursor"]


@pytest.mark.parametrize(
    ("path", "order"),
    [
        (TENANTS, {}),
        (TENANTS, {"sort_by": "name", "sort_dir": "asc"}),
        (KEYS, {}),
        (KEYS, {"sort_by": "created_at", "sort_dir": "desc"}),
        (POLICIES, {}),
    ],
)
def test_every_row_once(operator: Operator, path: str, order: dict[str, str]) -> None:
    asked, put = listed(operator, path)
    chance = random.Random(3)
    sizes = {}
    for number in range(40):
        size = chance.choice(SIZES)
        sizes[put(f"n{number:02}", size)] = size
    turned = pages(operator, path, limit=15, **asked, **order)
    own = {row for page in turned for row in page} - set(sizes)
    assert len(own) <= 1  # the key that the tenant came with
    assert sorted(row for page in turned for row in page) == sorted([*sizes, *own])
    assert all(turned)
    for page in turned:
        assert len(page) <= 15
        assert len(page) == 1 or sum(sizes.get(row, 0) for row in page) <= PAGE_BYTES


def test_a_record_as_long_as_what_is_read_together(operator: Operator) -> None:
    asked, put = listed(operator, POLICIES)
    empty = put("", 0)
    bare = len(json.dumps(policy_at(operator, asked, empty)))
    made = [empty] + [put("", READ_TOGETHER - bare + more) for more in (-1, 0, 1)]
    assert {
        len(json.dumps(policy_at(operator, asked, policy))) - READ_TOGETHER for policy in made[1:]
    } == {-1, 0, 1}
    assert {row for page in pages(operator, POLICIES, **asked) for row in page} == set(made)


def policy_at(operator: Operator, asked: Body, policy_id: str) -> Any:
    names = operator.keys.tenant(asked["tenant_id"])
    stored = operator.redis.get(names.policy(policy_id))
    assert isinstance(stored, bytes)
    return json.loads(stored)


@pytest.mark.parametrize("path", [KEYS, POLICIES])
def test_no_more_is_read_than_a_page_and_a_row(operator: Operator, path: str) -> None:
    asked, put = listed(operator, path)
    for number in range(20):
        put(f"n{number:02}", 300_000)
    pages(operator, path, **asked, limit=1)
    before = operator.redis.info("stats")["total_net_output_bytes"]
    page = operators(operator).page(path, **asked, limit=20)
    assert len(page[MEMBERS[path]]) == 1
    read = operator.redis.info("stats")["total_net_output_bytes"] - before
    assert read < 2 * 300_000 + 21 * (READ_TOGETHER + 1_000)


def test_metadata_of_budgets_is_not_read(operator: Operator) -> None:
    tenant = Family(operator).child()
    for number in range(20):
        put_budget(tenant, f"/agent:{number}", metadata=json.dumps({"x": "x" * 300_000}))
    params = {"tenant_id": tenant.name, "limit": 30}
    operators(operator).page(BUDGETS, **params)
    before = operator.redis.info("stats")["total_net_output_bytes"]
    assert len(operators(operator).page(BUDGETS, **params)["ledgers"]) == 20
    assert operator.redis.info("stats")["total_net_output_bytes"] - before < 60_000


@pytest.mark.parametrize("by", ["timestamp", "operation"])
def test_audit_pages_end_by_bytes(operator: Operator, by: str) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    for number in range(12):
        funded = operator.fund(tenant, "CREDIT", 1, metadata={"x": "x" * 6_000, "n": number})
        assert funded.status_code == 200
    params: dict[str, Any] = {"tenant_id": tenant.name, "operation": "fundBudget", "limit": 50}
    reader = operators(operator)
    numbers = []
    while True:
        page = reader.page("/v1/admin/audit/logs", sort_by=by, **params)
        assert 1 <= len(page["logs"]) <= 3
        numbers += [entry["metadata"]["request_metadata"]["n"] for entry in page["logs"]]
        if not page["has_more"]:
            break
        params["cursor"] = page["next_cursor"]
    assert sorted(numbers) == list(range(12))


def test_an_entry_tells_how_long_metadata_was(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    metadata = {"x": "ü" * 50_000}
    assert operator.fund(tenant, "CREDIT", 1, metadata=metadata).status_code == 200
    path = "/v1/admin/budgets/freeze"
    params = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    assert operator.http.post(path, params=params, json={"metadata": metadata}).status_code == 200
    logs = operators(operator).page("/v1/admin/audit/logs", tenant_id=tenant.name)["logs"]
    told = {
        entry["operation"]: entry["metadata"]["request_metadata"]
        for entry in logs
        if entry["operation"] in ("fundBudget", "freezeBudget")
    }
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    assert told == {key: {"omitted_bytes": size} for key in ("fundBudget", "freezeBudget")}
