"""What holds for every list of the admin plane: pages, cursors, and scope filters."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from support.adminlists import (
    BALANCES,
    BUDGETS,
    IDS,
    KEYS,
    MEMBERS,
    POLICIES,
    TENANTS,
    Body,
    Family,
    ids,
    operators,
    put_budget,
    put_key,
    put_policy,
    refused,
    tenants_own,
    unique,
)
from support.operator import Operator
from support.reading import Reader
from support.tenants import Tenant, error_of


@dataclass
class Listed:
    """One list with rows in it.

    Attributes:
        asked: the parameters that leave none but these rows.
        ids: of the rows, in no order.
        drop: takes a row away.
    """

    path: str
    reader: Reader
    asked: Body
    ids: list[str]
    drop: Callable[[str], None]
    sort: Body = field(default_factory=dict)

    def page(self, **params: Any) -> Body:
        return self.reader.page(self.path, **{**self.asked, **params})

    def read(self, **params: Any) -> list[str]:
        return ids(self.reader, self.path, **{**self.asked, **params})

    def ids_of(self, page: Body) -> list[str]:
        return [row[IDS[self.path]] for row in page[MEMBERS[self.path]]]

    def refused(self, **params: Any) -> tuple[int, str]:
        return refused(self.reader, self.path, **{**self.asked, **params})[:2]


ROWS = 7


@pytest.fixture(params=MEMBERS)
def listed(request: pytest.FixtureRequest, operator: Operator) -> Listed:
    path: str = request.param
    redis = operator.redis
    if path == TENANTS:
        family = Family(operator)
        made = [family.child().name for _ in range(ROWS)]

        def drop_tenant(name: str) -> None:
            redis.delete(operator.keys.tenant(name).record)
            redis.srem(operator.keys.tenants, name)

        asked = {"parent_tenant_id": family.parent}
        return Listed(path, family.reader, asked, made, drop_tenant, {"sort_by": "name"})
    tenant = operator.tenant()
    own = {"tenant_id": tenant.name}
    if path == KEYS:
        made = [put_key(tenant) for _ in range(ROWS - 1)] + [tenant.key_id]
        tenant.write_key(expires_at="2999-01-01T00:00:00Z")

        def drop_key(key_id: str) -> None:
            redis.delete(tenant.names.api_key(key_id))
            redis.srem(tenant.names.api_keys(), key_id)

        return Listed(path, operators(operator), own, made, drop_key, {"sort_by": "status"})
    if path == POLICIES:
        made = [put_policy(tenant) for _ in range(ROWS)]

        def drop_policy(policy_id: str) -> None:
            redis.delete(tenant.names.policy(policy_id))
            redis.srem(tenant.names.policies, policy_id)

        return Listed(path, tenants_own(tenant), {}, made, drop_policy)
    by_id = {put_budget(tenant, f"/agent:a{n}"): f"/agent:a{n}" for n in range(ROWS)}

    def drop_budget(ledger_id: str) -> None:
        key = tenant.names.budget(f"tenant:{tenant.name}{by_id[ledger_id]}", "TOKENS")
        redis.delete(key)
        redis.srem(tenant.names.budgets, key)

    if path == BALANCES:
        return Listed(path, tenants_own(tenant), {}, [*by_id], drop_budget)
    return Listed(path, operators(operator), own, [*by_id], drop_budget, {"sort_by": "debt"})


def orders(listed: Listed) -> list[Body]:
    """Its own order, and another where it has one."""
    return [{}, listed.sort, {**listed.sort, "sort_dir": "asc"}] if listed.sort else [{}]


def test_pages_follow_each_other_and_end(listed: Listed) -> None:
    for order in orders(listed):
        whole = listed.read(**order)
        assert sorted(whole) == sorted(listed.ids)
        for limit in (1, 3, ROWS - 1):
            assert listed.read(limit=limit, **order) == whole
            assert listed.page(limit=limit, **order)["has_more"] is True
        for limit in (ROWS, ROWS + 1):
            page = listed.page(limit=limit, **order)
            assert page["has_more"] is False
            assert "next_cursor" not in page


@pytest.mark.parametrize("cursor", ["x", "§", "e30", "bnVsbA", "WyJ0ZW5hbnRzIiwxLG51bGwsIiJd"])
def test_a_cursor_that_is_none(listed: Listed, cursor: str) -> None:
    for order in orders(listed):
        assert listed.refused(cursor=cursor, **order) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_cursor_is_the_first_page(listed: Listed, blank: str) -> None:
    assert listed.page(cursor=blank, limit=2) == listed.page(limit=2)


def test_a_cursor_of_another_order(listed: Listed) -> None:
    plain = listed.page(limit=2)["next_cursor"]
    if not listed.sort:
        return
    down = listed.page(limit=2, **listed.sort)["next_cursor"]
    refusal = (400, "INVALID_REQUEST")
    assert listed.refused(cursor=plain, **listed.sort) == refusal
    assert listed.refused(cursor=down, **listed.sort, sort_dir="asc") == refusal
    other = {"sort_by": IDS[listed.path] if listed.path != BUDGETS else "scope"}
    assert listed.refused(cursor=down, **other) == refusal
    # It holds the order by itself.
    assert listed.page(cursor=down) == listed.page(cursor=down, **listed.sort)


def test_a_cursor_of_another_filter(listed: Listed) -> None:
    others = {
        TENANTS: {"search": "t-"},
        BUDGETS: {"has_debt": "false"},
        KEYS: {"status": "ACTIVE"},
        POLICIES: {"status": "ACTIVE"},
        BALANCES: {"unit": "TOKENS"},
    }
    for order in orders(listed):
        cursor = listed.page(limit=2, **order)["next_cursor"]
        other = others[listed.path]
        assert listed.refused(cursor=cursor, **other, **order) == (400, "INVALID_REQUEST")


def test_a_cursor_of_another_list(listed: Listed, operator: Operator) -> None:
    family = Family(operator)
    family.child(), family.child()
    theirs = family.page(limit=1)["next_cursor"]
    assert listed.refused(cursor=theirs) == (400, "INVALID_REQUEST")


def test_what_a_page_ended_with_may_be_gone(listed: Listed) -> None:
    for order in orders(listed):
        whole = listed.read(**order)
        page = listed.page(limit=2, **order)
        listed.drop(listed.ids_of(page)[-1])
        assert listed.read(cursor=page["next_cursor"], **order) == whole[2:]


def test_a_row_that_left_its_filter_does_not_break_the_walk(operator: Operator) -> None:
    tenant = operator.tenant()
    for number in range(5):
        put_budget(tenant, f"/agent:{number}")
    own = tenants_own(tenant)
    for asked in ({"status": "ACTIVE"}, {"status": "ACTIVE", "sort_by": "debt"}):
        whole = ids(own, BUDGETS, **asked)
        page = own.page(BUDGETS, limit=2, **asked)
        scope = page["ledgers"][-1]["scope"]
        tenant.redis.hset(tenant.names.budget(scope, "TOKENS"), "status", "FROZEN")
        rest = ids(own, BUDGETS, cursor=page["next_cursor"], **asked)
        assert rest == whole[2:]
        tenant.redis.hset(tenant.names.budget(scope, "TOKENS"), "status", "ACTIVE")


def test_what_nobody_knows_is_ignored(listed: Listed) -> None:
    assert sorted(listed.read(foo="bar", offset="3")) == sorted(listed.ids)


def test_a_parameter_twice(listed: Listed) -> None:
    for name in ("limit", "cursor"):
        answer = listed.reader.get(listed.path, **listed.asked, **{name: ["1", "2"]})
        assert error_of(answer) == (400, "INVALID_REQUEST")


def forged(cursor: str, change: Callable[[list[Any]], None]) -> str:
    """A cursor with something in it changed."""
    fields = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    change(fields)
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode()


def test_a_forged_place_shows_nothing_else(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    for one in (tenant, other):
        for number in range(3):
            put_budget(one, f"/agent:{number}")
    own = tenants_own(tenant)
    all_own = set(ids(own, BUDGETS))
    theirs = tenants_own(other).page(BUDGETS, limit=1)["next_cursor"]
    assert refused(own, BUDGETS, cursor=theirs)[:2] == (400, "INVALID_REQUEST")
    mine = own.page(BUDGETS, limit=1)["next_cursor"]
    for place in ([other.name, ""], ["", ""], ["\x00", "\xff"], [tenant.name, ""]):

        def change(fields: list[Any], place: list[str] = place) -> None:
            fields[1] = place

        assert set(ids(own, BUDGETS, cursor=forged(mine, change))) <= all_own


@pytest.mark.parametrize("value", ["", "0", "0x", "2", "0-", "0" + "9" * 5000])
def test_a_forged_sort_value(operator: Operator, value: str) -> None:
    tenant = operator.tenant()
    for number in range(3):
        put_budget(tenant, f"/agent:{number}")
    own = tenants_own(tenant)
    for by in ("utilization", "debt"):
        cursor = own.page(BUDGETS, limit=1, sort_by=by)["next_cursor"]

        def change(fields: list[Any]) -> None:
            fields[1][0] = value

        assert refused(own, BUDGETS, cursor=forged(cursor, change))[0] == 400


# -- scope filters ---------------------------------------------------------------------------------

FILTERS = [
    (["agent:a"], {"a", "wa"}),
    (["AGENT:a"], set()),  # a level's name has one spelling
    (["agent:A"], {"a", "wa"}),
    (["agent:*"], {"a", "b", "wa"}),
    (["agent:a", "agent:b"], {"a", "b", "wa"}),
    (["agent:a", "workspace:w"], {"wa"}),
    (["*"], set()),
    (["tenant:T/agent:a"], set()),
    ([""], set()),
    ([], {"t", "a", "b", "w", "wa"}),
]
BELOW = {
    "t": "",
    "a": "/agent:a",
    "b": "/agent:b",
    "w": "/workspace:w",
    "wa": "/workspace:w/agent:a",
}


@pytest.mark.parametrize(("scope_filter", "shown"), FILTERS)
def test_a_scope_filter_decides_which_rows_are_there(
    operator: Operator, scope_filter: list[str], shown: set[str]
) -> None:
    tenant = operator.tenant()
    scope_filter = [entry.replace("T", tenant.name) for entry in scope_filter]
    budgets = {short: put_budget(tenant, below) for short, below in BELOW.items()}
    policies = {
        short: put_policy(tenant, scope_pattern=f"tenant:{tenant.name}{below.upper()}")
        for short, below in BELOW.items()
    }
    own = tenants_own(tenant, scope_filter=scope_filter)
    top = f"tenant:{tenant.name}"
    for path in (BUDGETS, BALANCES):
        for asked in ({}, {"scope_prefix": top}, {"limit": 1}):
            assert set(ids(own, path, **asked)) == {budgets[short] for short in shown}
    assert set(ids(own, POLICIES)) == {policies[short] for short in shown}
    for short, below in BELOW.items():
        for scope in (top + below, (top + below).upper().replace("TENANT", "tenant", 1)):
            answer = own.get(f"{BUDGETS}/lookup", scope=scope, unit="TOKENS")
            assert answer.status_code == (200 if short in shown else 403), (scope, answer.text)


def test_a_filter_that_is_none_opens_nothing(operator: Operator) -> None:
    tenant: Tenant = operator.tenant()
    put_budget(tenant)
    assert ids(tenants_own(tenant, scope_filter=[None]), BUDGETS) == []
    assert ids(tenants_own(tenant, scope_filter=None), BUDGETS)


def test_a_search_for_another_tenants_rows_finds_none(operator: Operator) -> None:
    token = unique()
    tenant, other = operator.tenant(), operator.tenant()
    put_budget(other, f"/agent:{token}")
    assert ids(tenants_own(tenant), BUDGETS, search=token) == []
