"""listBudgets: whose, filtered, sorted."""

from __future__ import annotations

from typing import Any

import pytest
from support.adminlists import BUDGETS, ids, operators, put_budget, refused, tenants_own, unique
from support.operator import Operator
from support.reading import Reader
from support.tenants import Tenant, error_of

MAX = 2**63 - 1


@pytest.fixture
def tenant(operator: Operator) -> Tenant:
    return operator.tenant()


@pytest.fixture
def own(tenant: Tenant) -> Reader:
    return tenants_own(tenant)


def test_a_ledger_is_shown_as_it_is_alone(operator: Operator, tenant: Tenant) -> None:
    operator.budget(tenant, 500, overdraft_limit={"unit": "TOKENS", "amount": 7})
    operator.budget(tenant, 600, "/agent:a", unit="CREDITS")
    rows = operators(operator).page(BUDGETS, tenant_id=tenant.name)["ledgers"]
    alone = [
        operator.http.get(f"{BUDGETS}/lookup", params={"scope": row["scope"], "unit": row["unit"]})
        for row in rows
    ]
    assert rows == [answer.json() for answer in alone]
    assert {row["tenant_id"] for row in rows} == {tenant.name}
    assert sorted(row["allocated"]["amount"] for row in rows) == [500, 600]


def test_all_tenants(operator: Operator) -> None:
    token = unique()
    tenants = [
        Tenant(operator.redis, operator.url, operator.keys, f"{letter}-{token}") for letter in "bca"
    ]
    for one in tenants:
        one.record()
        for level in ("/agent:x", "", "/agent:y"):
            put_budget(one, level)
    reader = operators(operator)
    for extra in ({}, {"tenant_id": ""}, {"tenant_id": " "}, {"limit": 2}, {"limit": 4}):
        rows = reader.rows(BUDGETS, "ledgers", search=token.upper(), **extra)
        assert len({row["ledger_id"] for row in rows}) == len(rows) == 9
        assert [row["tenant_id"] for row in rows] == [
            f"{letter}-{token}" for letter in "abc" for _ in range(3)
        ]


def test_a_tenant_that_is_none(operator: Operator) -> None:
    page = operators(operator).page(BUDGETS, tenant_id=f"nobody-{unique()}")
    assert page == {"ledgers": [], "has_more": False}


def test_a_key_sees_its_own_whatever_it_asks_for(operator: Operator, tenant: Tenant) -> None:
    other = operator.tenant()
    put_budget(other)
    own = {put_budget(tenant, f"/agent:{status}", status=status) for status in STATUSES}
    assert set(ids(tenants_own(tenant), BUDGETS)) == own
    assert set(ids(tenants_own(tenant), BUDGETS, tenant_id=other.name)) == own


STATUSES = ("ACTIVE", "FROZEN", "CLOSED")


def test_a_prefix_means_the_scope_and_those_below(operator: Operator, tenant: Tenant) -> None:
    found = {
        put_budget(tenant, "/workspace:w1"),
        put_budget(tenant, "/workspace:w1", unit="CREDITS"),
        put_budget(tenant, "/workspace:w1/agent:x"),
    }
    for other in ("", "/workspace:w10", "/workspace:w10/agent:x", "/workspace:w1-2", "/agent:x"):
        put_budget(tenant, other)
    prefix = f"tenant:{tenant.name}/workspace:w1"
    for reader in (tenants_own(tenant), operators(operator)):
        for text in (prefix, prefix.upper(), f"{prefix}/", f" {prefix} "):
            assert set(ids(reader, BUDGETS, scope_prefix=text)) == found
        assert ids(reader, BUDGETS, scope_prefix=prefix[:-1]) == []
    for blank in ("", " "):
        assert len(ids(tenants_own(tenant), BUDGETS, scope_prefix=blank)) == 8


def test_by_unit_and_status(tenant: Tenant, own: Reader) -> None:
    by = {status: put_budget(tenant, f"/agent:{status}", status=status) for status in STATUSES}
    credits_ = put_budget(tenant, unit="CREDITS")
    assert ids(own, BUDGETS, unit="CREDITS") == [credits_]
    assert ids(own, BUDGETS, status="FROZEN") == [by["FROZEN"]]
    assert set(ids(own, BUDGETS, status="ACTIVE")) == {by["ACTIVE"], credits_}
    assert len(ids(own, BUDGETS, status="", unit="")) == 4
    for odd in ({"unit": "tokens"}, {"unit": "EUR"}, {"status": "frozen"}, {"status": "x"}):
        assert refused(own, BUDGETS, **odd)[:2] == (400, "INVALID_REQUEST")


def test_by_being_over_the_limit_and_by_debt(tenant: Tenant, own: Reader) -> None:
    clear = put_budget(tenant)
    owing = put_budget(tenant, "/agent:a", debt=5, overdraft_limit=9)
    over = put_budget(tenant, "/agent:b", debt=5, is_over_limit="true")
    assert ids(own, BUDGETS, over_limit="true") == [over]
    assert set(ids(own, BUDGETS, over_limit="false")) == {clear, owing}
    assert set(ids(own, BUDGETS, has_debt="true")) == {owing, over}
    assert ids(own, BUDGETS, has_debt="false") == [clear]
    assert ids(own, BUDGETS, has_debt="true", over_limit="false") == [owing]
    for odd in ("maybe", "1", "yes", "on", "True", ""):
        for name in ("over_limit", "has_debt"):
            assert refused(own, BUDGETS, **{name: odd})[:2] == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("spent", "allocated", "bounds", "found"),
    [
        (50, 100, {"min": "0.5"}, True),
        (50, 100, {"max": "0.5"}, True),
        (50, 100, {"min": "0.5", "max": "0.5"}, True),
        (50, 100, {"min": "0.5000000000000000000000001"}, False),
        (50, 100, {"max": "5e-1"}, True),
        (10, 0, {"max": "0"}, True),
        (10, 0, {"min": "1e-400"}, False),
        (10, 0, {"min": "1e-99999999999999999999"}, False),
        (150, 100, {"min": "1"}, True),
        (150, 100, {"max": "1"}, False),
        (150, 100, {"max": "1.0"}, False),
        (1, 10, {"min": "0.1", "max": "0.1"}, True),
        (MAX - 1, MAX, {"min": "1"}, False),
        (MAX - 1, MAX, {"min": "0.9999999999999999998915797827514495565"}, True),
        (MAX - 1, MAX, {"min": "0.9999999999999999998915797827514495566"}, False),
        (2**62, 2**62 * 2 - 1, {"min": "0.5"}, True),
        (2**62, 2**62 * 2 - 1, {"max": "0.5"}, False),
    ],
)
def test_utilization_is_compared_without_rounding(
    tenant: Tenant, own: Reader, spent: int, allocated: int, bounds: dict[str, str], found: bool
) -> None:
    budget = put_budget(tenant, allocated=allocated, spent=spent)
    params = {f"utilization_{end}": bound for end, bound in bounds.items()}
    assert ids(own, BUDGETS, **params) == ([budget] if found else [])


@pytest.mark.parametrize("end", ["min", "max"])
@pytest.mark.parametrize(
    "bound",
    ["1.1", "-0.1", "-1e-400", "abc", "Infinity", "NaN", "nan", "1.00000000000000000000001", ""],
)
def test_a_utilization_that_is_none(own: Reader, end: str, bound: str) -> None:
    name = f"utilization_{end}"
    status, code, message = refused(own, BUDGETS, **{name: bound})
    assert (status, code) == (400, "INVALID_REQUEST")
    assert name in message


def test_the_least_utilization_above_the_most(own: Reader) -> None:
    odd = {"utilization_min": "0.6", "utilization_max": "0.5"}
    assert refused(own, BUDGETS, **odd)[:2] == (400, "INVALID_REQUEST")


def test_a_search_looks_into_tenants_and_scopes(operator: Operator, tenant: Tenant) -> None:
    token = unique()
    found = put_budget(tenant, f"/agent:{token}")
    rest = put_budget(tenant)
    reader = operators(operator)
    assert ids(reader, BUDGETS, search=f" {token.upper()} ") == [found]
    assert set(ids(reader, BUDGETS, search=tenant.name[2:].upper())) == {found, rest}
    assert set(ids(tenants_own(tenant), BUDGETS, search="")) == {found, rest}
    assert refused(reader, BUDGETS, search="x" * 129)[:2] == (400, "INVALID_REQUEST")


def test_each_sort_key(operator: Operator) -> None:
    token = unique()
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ("a", "/agent:b", {"spent": 10, "debt": MAX, "commit_overage_policy": "REJECT"}),
        ("a", "/agent:a", {"spent": 10, "debt": 2, "status": "FROZEN", "unit": "CREDITS"}),
        ("b", "", {"spent": 150, "commit_overage_policy": "ALLOW_IF_AVAILABLE"}),
        ("b", "/agent:c", {"spent": 10, "allocated": 0, "debt": 2, "status": "CLOSED"}),
    ]
    tenants: dict[str, Tenant] = {}
    for number, (short, below, fields) in enumerate(rows):
        if short not in tenants:
            name = f"{short}-{token}"
            tenants[short] = Tenant(operator.redis, operator.url, operator.keys, name)
            tenants[short].record()
        put_budget(tenants[short], below, ledger_id=f"{number}-{token}", **fields)
    ascending = {
        "tenant_id": [0, 1, 2, 3],
        "scope": [1, 0, 2, 3],
        "unit": [1, 0, 2, 3],
        "status": [0, 2, 3, 1],
        "commit_overage_policy": [2, 0, 1, 3],
        "utilization": [3, 0, 1, 2],
        "debt": [2, 1, 3, 0],
    }
    reader = operators(operator)
    for by, expected in ascending.items():
        for limit in (1, 3, 100):
            asked = {"search": token, "sort_by": by, "limit": limit}
            up = ids(reader, BUDGETS, sort_dir="asc", **asked)
            assert up == [f"{number}-{token}" for number in expected], by
            assert ids(reader, BUDGETS, **asked) == up[::-1]
    asked = {"search": token, "sort_dir": "asc"}
    assert ids(reader, BUDGETS, **asked) == ids(reader, BUDGETS, sort_by="utilization", **asked)


def test_shares_that_doubles_cannot_tell_apart_are_sorted(tenant: Tenant, own: Reader) -> None:
    spent = [MAX - 3, MAX - 1, MAX - 2]
    made = [put_budget(tenant, f"/agent:{n}", MAX, spent=n) for n in spent]
    order = [made[1], made[2], made[0]]
    assert ids(own, BUDGETS, sort_by="utilization", limit=1) == order


def test_equal_values_are_in_the_order_of_ids(tenant: Tenant, own: Reader) -> None:
    made = [put_budget(tenant, f"/agent:{n}") for n in range(7)]
    same = [put_budget(tenant, f"/app:{n}", ledger_id="twice") for n in range(2)]
    for by in ("debt", "unit", "status", "commit_overage_policy"):
        rising = ids(own, BUDGETS, sort_by=by, sort_dir="asc", limit=2)
        assert rising == sorted(made + same)


@pytest.mark.parametrize("by", ["ledger_id", "created_at", "allocated", "Debt"])
def test_a_sort_key_that_is_none(own: Reader, by: str) -> None:
    assert refused(own, BUDGETS, sort_by=by)[:2] == (400, "INVALID_REQUEST")


def test_a_limit_has_no_bounds_and_is_held_within_some(tenant: Tenant, own: Reader) -> None:
    for number in range(101):
        put_budget(tenant, f"/agent:a{number}")
    for limit, rows in ((0, 1), (-1, 1), (500, 100), (100, 100), (2, 2)):
        page = own.page(BUDGETS, limit=limit)
        assert len(page["ledgers"]) == rows
    assert len(own.page(BUDGETS)["ledgers"]) == 50
    for odd in ("abc", "1.5", ""):
        assert refused(own, BUDGETS, limit=odd)[:2] == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "damage",
    [
        {"allocated": "x"},
        {"spent": str(2**63)},
        {"remaining": ""},
        {"status": "GONE"},
        {"created_at": "soon"},
    ],
)
def test_a_ledger_that_cannot_be_read_is_never_left_out(
    tenant: Tenant, own: Reader, damage: dict[str, str]
) -> None:
    put_budget(tenant)
    put_budget(tenant, "/agent:a", **damage)
    for asked in ({}, {"sort_by": "utilization"}):
        assert refused(own, BUDGETS, **asked)[:2] == (500, "INTERNAL_ERROR")
    # What is not asked for stands in nobody's way.
    assert len(ids(own, BUDGETS, search="agent:b")) == 0


def test_a_record_of_the_wrong_type_is_never_left_out(tenant: Tenant, own: Reader) -> None:
    put_budget(tenant)
    record = tenant.names.budget(f"tenant:{tenant.name}", "TOKENS")
    tenant.redis.delete(record)
    tenant.redis.set(record, "x")
    assert refused(own, BUDGETS)[:2] == (500, "INTERNAL_ERROR")


def test_names_that_lead_nowhere_are_no_rows(operator: Operator, tenant: Tenant) -> None:
    kept = put_budget(tenant)
    other = operator.tenant()
    put_budget(other)
    theirs = other.names.budget(f"tenant:{other.name}", "TOKENS")
    gone = tenant.names.budget(f"tenant:{tenant.name}/agent:gone", "TOKENS")
    tenant.redis.sadd(tenant.names.budgets, theirs, gone, b"\xff\xfe")
    assert ids(tenants_own(tenant), BUDGETS) == [kept]


def test_who_may(operator: Operator, tenant: Tenant) -> None:
    put_budget(tenant)
    for allowed in ("budgets:read", "admin:read"):
        assert len(ids(tenants_own(tenant, permissions=[allowed]), BUDGETS)) == 1
    for lacking in ("budgets:write", "admin:write", "balances:read"):
        answer = tenants_own(tenant, permissions=[lacking]).get(BUDGETS)
        assert error_of(answer) == (403, "INSUFFICIENT_PERMISSIONS")
