"""Budgets: made, looked up, and what they allow changed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from support.crowd import at_once
from support.operator import Operator
from support.tenants import UNIT, Tenant, error_of

PATH = "/v1/admin/budgets"
MAX = 2**63 - 1


def amount(value: Any, unit: str = UNIT) -> dict[str, Any]:
    return {"unit": unit, "amount": value}


def asked(tenant: Tenant, below: str = "", **members: Any) -> dict[str, Any]:
    return {
        "tenant_id": tenant.name,
        "scope": f"tenant:{tenant.name}{below}",
        "unit": UNIT,
        "allocated": amount(5),
        **members,
    }


def test_a_new_one(operator: Operator) -> None:
    tenant = operator.tenant()
    ledger = operator.budget(tenant, 5, "/workspace:Eng")
    scope = f"tenant:{tenant.name}/workspace:eng"
    assert ledger.pop("created_at")
    assert ledger.pop("ledger_id") == tenant.stored_budget(scope)["ledger_id"]
    nothing = amount(0)
    assert ledger == {
        "tenant_id": tenant.name,
        "scope": scope,
        "unit": UNIT,
        "allocated": amount(5),
        "remaining": amount(5),
        "reserved": nothing,
        "spent": nothing,
        "debt": nothing,
        "overdraft_limit": nothing,
        "is_over_limit": False,
        "status": "ACTIVE",
    }
    entry = operator.audit(tenant.name)[-1]
    assert (entry["operation"], entry["status"]) == ("createBudget", 201)
    assert entry["metadata"] == {
        "scope": scope,
        "unit": UNIT,
        "allocated": 5,
        "actor_type": "admin_on_behalf_of",
    }
    again = operator.http.post(PATH, json=asked(tenant, "/workspace:ENG"))
    assert error_of(again) == (409, "DUPLICATE_RESOURCE")


def test_all_that_may_be_said_of_it(operator: Operator) -> None:
    tenant = operator.tenant()
    more = {
        "overdraft_limit": amount(7),
        "commit_overage_policy": "REJECT",
        "rollover_policy": "CARRY_FORWARD",
        "period_start": "2026-01-01T01:00:00.123456+01:00",
        "period_end": "2026-02-01T00:00:00Z",
        "metadata": {"nested": {"a": [1e21]}},
    }
    made = operator.budget(tenant, MAX, **more)
    assert made["period_start"] == "2026-01-01T00:00:00.123Z"
    assert made["rollover_policy"] == "CARRY_FORWARD"
    assert made["remaining"] == amount(MAX)
    assert "metadata" not in made
    assert operator.of_budget("GET", "/lookup", tenant).json() == made
    assert tenant.stored_budget()["metadata_json"] == '{"nested":{"a":[1e+21]}}'


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"scope": "workspace:eng"}, (400, "INVALID_REQUEST")),
        ({"scope": "tenant:other-one"}, (400, "INVALID_REQUEST")),
        ({"scope": ""}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:a/workspace:b"}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:a/agent:b"}, (400, "INVALID_REQUEST")),
        ({"below": "/team:a"}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:*"}, (400, "INVALID_REQUEST")),
        ({"below": "/*"}, (400, "INVALID_REQUEST")),
        ({"below": "/"}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:"}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:a b"}, (400, "INVALID_REQUEST")),
        ({"below": "/agent:é"}, (400, "INVALID_REQUEST")),
        ({"below": "/Agent:a"}, (400, "INVALID_REQUEST")),
        ({"unit": "USD"}, (400, "INVALID_REQUEST")),
        ({"unit": 1}, (400, "INVALID_REQUEST")),
        ({"allocated": amount(5, "CREDITS")}, (400, "UNIT_MISMATCH")),
        ({"overdraft_limit": amount(5, "CREDITS")}, (400, "UNIT_MISMATCH")),
        ({"allocated": 5}, (400, "INVALID_REQUEST")),
        ({"allocated": amount(-1)}, (400, "INVALID_REQUEST")),
        ({"allocated": amount(MAX + 1)}, (400, "INVALID_REQUEST")),
        ({"allocated": amount(5.5)}, (400, "INVALID_REQUEST")),
        ({"allocated": amount("7")}, (400, "INVALID_REQUEST")),
        ({"allocated": amount(True)}, (400, "INVALID_REQUEST")),
        ({"period_start": "2026-02-01"}, (400, "INVALID_REQUEST")),
        ({"period_start": 5}, (400, "INVALID_REQUEST")),
        # In UTC these are of the years 0 and 10000.
        ({"period_start": "0001-01-01T00:01:08+01:02"}, (400, "INVALID_REQUEST")),
        ({"period_end": "9999-12-31T23:59:59-01:00"}, (400, "INVALID_REQUEST")),
        ({"status": "ACTIVE"}, (400, "INVALID_REQUEST")),
        ({"tenant_id": ""}, (400, "INVALID_REQUEST")),
        ({"tenant_id": None}, (400, "INVALID_REQUEST")),
        ({"tenant_id": "nobody-here", "scope": "tenant:nobody-here"}, (400, "INVALID_REQUEST")),
    ],
)
def test_what_is_not_allowed_makes_none(
    operator: Operator, members: dict[str, Any], error: tuple[int, str]
) -> None:
    tenant = operator.tenant()
    below = members.pop("below", "") if "below" in members else ""
    refused = operator.http.post(PATH, json=asked(tenant, below, **members))
    assert error_of(refused) == error
    assert not operator.redis.exists(tenant.names.budgets)


def test_ten_at_once_make_one(operator: Operator) -> None:
    tenant = operator.tenant()
    answers = at_once([lambda: operator.http.post(PATH, json=asked(tenant))] * 10)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9


@pytest.mark.parametrize(
    ("status", "error"),
    [("SUSPENDED", (400, "INVALID_REQUEST")), ("CLOSED", (409, "TENANT_CLOSED"))],
)
def test_a_tenant_that_is_not_active_gets_none(
    operator: Operator, status: str, error: tuple[int, str]
) -> None:
    tenant = operator.tenant()
    tenant.record(status=status)
    assert error_of(operator.http.post(PATH, json=asked(tenant))) == error
    assert not operator.redis.exists(tenant.names.budgets)


def test_a_tenants_own_key(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    body = asked(tenant)
    refused = tenant.http.post(PATH, json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert "tenant_id" in refused.json()["message"]
    del body["tenant_id"]
    assert error_of(other.http.post(PATH, json=body)) == (400, "INVALID_REQUEST")
    made = tenant.http.post(PATH, json=body)
    assert made.status_code == 201
    entry = operator.audit(tenant.name)[-1]
    assert entry["key_id"] == tenant.key_id
    assert entry["metadata"]["actor_type"] == "api_key"


# -- look up ---------------------------------------------------------------------------------------


def test_look_up_in_any_case_and_only_ones_own(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    made = operator.budget(tenant, below="/agent:a")
    query = {"scope": f"tenant:{tenant.name}/agent:A", "unit": UNIT}
    for client in (operator.http, tenant.http):
        assert client.get(f"{PATH}/lookup", params=query).json() == made
    assert error_of(other.http.get(f"{PATH}/lookup", params=query)) == (404, "BUDGET_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"scope": "tenant:nobody-here"}, (404, "BUDGET_NOT_FOUND")),
        ({"scope": ""}, (404, "BUDGET_NOT_FOUND")),
        ({"unit": "CREDITS"}, (404, "BUDGET_NOT_FOUND")),
        ({"unit": "BAD"}, (400, "INVALID_REQUEST")),
        ({"unit": ""}, (400, "INVALID_REQUEST")),
        ({"scope": None}, (400, "INVALID_REQUEST")),
        ({"unit": None}, (400, "INVALID_REQUEST")),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/lookup", None),
        ("PATCH", "", {}),
        ("POST", "/freeze", None),
        ("POST", "/unfreeze", {}),
    ],
)
def test_one_that_is_not_there(
    operator: Operator,
    query: dict[str, str | None],
    error: tuple[int, str],
    method: str,
    path: str,
    body: Any,
) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    full = {"scope": f"tenant:{tenant.name}", "unit": UNIT, **query}
    params = {name: value for name, value in full.items() if value is not None}
    assert error_of(operator.http.request(method, PATH + path, params=params, json=body)) == error


def test_one_as_the_reference_stores_it(operator: Operator) -> None:
    tenant = operator.tenant()
    scope = f"tenant:{tenant.name}"
    empty = dict.fromkeys(("commit_overage_policy", "period_start", "metadata_json"), "")
    tenant.budget(scope, created_at="1760000000123", updated_at="1760000000456", **empty)
    operator.redis.hdel(tenant.names.budget(scope, UNIT), "status", "debt", "overdraft_limit")
    ledger = operator.of_budget("GET", "/lookup", tenant).json()
    assert ledger["status"] == "ACTIVE"
    assert ledger["created_at"] == "2025-10-09T08:53:20.123Z"
    assert "commit_overage_policy" not in ledger


# -- update, freeze, unfreeze ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("debt", "limit", "over"),
    [(20, 19, True), (20, 20, False), (2**53 + 1, 2**53, True), (2**53 + 1, MAX, False)],
)
def test_being_over_the_limit_follows(
    operator: Operator, debt: int, limit: int, over: bool
) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    operator.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), "debt", debt)
    body = {"overdraft_limit": amount(limit)}
    changed = operator.of_budget("PATCH", "", tenant, body=body).json()
    assert (changed["is_over_limit"], changed["overdraft_limit"]) == (over, amount(limit))
    assert changed["updated_at"]


def test_update_of_the_rest(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    body = {"commit_overage_policy": "REJECT", "metadata": {"k": "v"}, "overdraft_limit": None}
    changed = operator.of_budget("PATCH", "", tenant, body={k: v for k, v in body.items() if v})
    assert changed.json()["commit_overage_policy"] == "REJECT"
    assert tenant.stored_budget()["metadata_json"] == '{"k":"v"}'
    entry = operator.audit(tenant.name)[-1]
    assert entry["operation"] == "updateBudget"
    assert entry["metadata"]["commit_overage_policy"] == "REJECT"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"allocated": amount(1)}, (400, "INVALID_REQUEST")),
        ({"status": "FROZEN"}, (400, "INVALID_REQUEST")),
        ({"overdraft_limit": amount(1, "CREDITS")}, (400, "UNIT_MISMATCH")),
        ({"overdraft_limit": amount(-1)}, (400, "INVALID_REQUEST")),
    ],
)
def test_what_cannot_be_updated(
    operator: Operator, body: dict[str, Any], error: tuple[int, str]
) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    before = tenant.stored_budget()
    assert error_of(operator.of_budget("PATCH", "", tenant, body=body)) == error
    assert tenant.stored_budget() == before


def test_freezing_and_back(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    operator.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), "reserved", 10)
    before = tenant.amounts()
    assert error_of(operator.of_budget("POST", "/unfreeze", tenant)) == (409, "INVALID_REQUEST")
    frozen = operator.of_budget("POST", "/freeze", tenant, body={"reason": "because"})
    assert frozen.json()["status"] == "FROZEN"
    assert operator.audit(tenant.name)[-1]["metadata"]["reason"] == "because"
    assert error_of(operator.of_budget("POST", "/freeze", tenant)) == (409, "INVALID_REQUEST")
    updated = operator.of_budget("PATCH", "", tenant, body={"metadata": {}})
    assert updated.json()["status"] == "FROZEN"
    assert operator.of_budget("POST", "/unfreeze", tenant, body={}).json()["status"] == "ACTIVE"
    assert tenant.amounts() == before


def test_freezing_twice_at_once_is_done_once(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    answers = at_once([lambda: operator.of_budget("POST", "/freeze", tenant)] * 4)
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


@pytest.mark.parametrize("body", ['{"reason": 5}', '{"why": "x"}', "{", "[]"])
def test_a_bad_reason_changes_nothing(operator: Operator, body: str) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    refused = operator.http.post(
        f"{PATH}/freeze",
        params={"scope": f"tenant:{tenant.name}", "unit": UNIT},
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert tenant.stored_budget()["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PATCH", "", {}), ("POST", "/freeze", None), ("POST", "/unfreeze", None)],
)
def test_what_is_closed_stays_as_it_is(
    operator: Operator, method: str, path: str, body: Any
) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    operator.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), "status", "CLOSED")
    before = tenant.stored_budget()
    assert error_of(operator.of_budget(method, path, tenant, body=body)) == (409, "BUDGET_CLOSED")
    tenant.record(status="CLOSED")
    guarded = operator.http.request(
        method, PATH + path, params={"scope": f"TENANT:{tenant.name}", "unit": UNIT}, json=body
    )
    assert error_of(guarded) == (409, "TENANT_CLOSED")
    assert tenant.stored_budget() == before


def test_a_sign_that_turns_into_a_letter_is_none(operator: Operator) -> None:
    """Unicode lowers the Kelvin sign to k."""
    tenant = operator.tenant()
    operator.budget(tenant, 5, "/agent:k")
    made = operator.http.post(PATH, json=asked(tenant, "/agent:\u212a"))
    assert error_of(made) == (400, "INVALID_REQUEST")
    found = operator.of_budget("GET", "/lookup", tenant, "/agent:\u212a")
    assert error_of(found) == (404, "BUDGET_NOT_FOUND")
    funded = operator.fund(tenant, "CREDIT", 1, below="/agent:\u212a")
    assert error_of(funded) == (404, "BUDGET_NOT_FOUND")
    frozen = operator.of_budget("POST", "/freeze", tenant, "/agent:\u212a")
    assert error_of(frozen) == (404, "BUDGET_NOT_FOUND")
    query = {"tenant_id": tenant.name, "scope_prefix": f"tenant:{tenant.name}/agent:\u212a"}
    assert operator.http.get(PATH, params=query).json()["ledgers"] == []
    policy = {
        "tenant_id": tenant.name,
        "name": "n",
        "scope_pattern": f"tenant:{tenant.name}/agent:\u212a",
    }
    refused = operator.http.post("/v1/admin/policies", json=policy)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert tenant.amounts(f"tenant:{tenant.name}/agent:k")["remaining"] == 5


def test_of_many_at_once_each_is_answered_with_its_own(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    limits: dict[int, int] = {}
    statuses: list[tuple[str, int, str]] = []

    def set_limit(limit: int) -> None:
        answer = operator.of_budget("PATCH", "", tenant, body={"overdraft_limit": amount(limit)})
        limits[limit] = answer.json()["overdraft_limit"]["amount"]

    def turn(path: str) -> None:
        answer = operator.of_budget("POST", path, tenant)
        statuses.append((path, answer.status_code, answer.json().get("status", "")))

    deeds = [partial(set_limit, number) for number in range(20)]
    deeds += [partial(turn, path) for path in ("/freeze", "/unfreeze") * 20]
    at_once(deeds)
    assert limits == {number: number for number in range(20)}
    done = {(path, status) for path, code, status in statuses if code == 200}
    assert done <= {("/freeze", "FROZEN"), ("/unfreeze", "ACTIVE")}
    assert ("/freeze", "FROZEN") in done


def test_of_a_closed_tenant_nothing_else_is_said(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant, 5, "/agent:a")
    tenant.record(status="CLOSED")
    closed = (409, "TENANT_CLOSED")
    for wrong in (
        {"scope": "tenant:another"},
        {"scope": "junk"},
        {"allocated": amount(5, "CREDITS")},
    ):
        made = operator.http.post(PATH, json={**asked(tenant), **wrong})
        assert error_of(made) == closed
    other_unit = {"overdraft_limit": amount(1, "CREDITS")}
    assert error_of(operator.of_budget("PATCH", "", tenant, "/agent:a", other_unit)) == closed
    spent = {"spent": amount(1, "CREDITS")}
    funded = operator.fund(tenant, "RESET_SPENT", 1, below="/agent:a", **spent)
    assert error_of(funded) == closed
    policy = {"tenant_id": tenant.name, "name": " ", "scope_pattern": "tenant:another"}
    assert error_of(operator.http.post("/v1/admin/policies", json=policy)) == closed
    key = {"tenant_id": tenant.name, "name": "k", "expires_at": "2001-01-01T00:00:00Z"}
    assert error_of(operator.http.post("/v1/admin/api-keys", json=key)) == closed


def test_a_flag_that_another_server_left_behind_the_debt(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    record = tenant.names.budget(f"tenant:{tenant.name}", UNIT)
    operator.redis.hset(record, mapping={"debt": 5, "overdraft_limit": 3, "is_over_limit": "false"})
    assert operator.of_budget("GET", "/lookup", tenant).json()["is_over_limit"] is True
    for over, rows in (("true", 1), ("false", 0)):
        query = {"tenant_id": tenant.name, "over_limit": over}
        assert len(operator.http.get(PATH, params=query).json()["ledgers"]) == rows


@pytest.mark.parametrize(
    "fields",
    [
        {"spent": "1_0"},
        {"allocated": "+5"},
        {"debt": " 5"},
        {"reserved": "\u0665"},
        {"allocated": "0" * 22 + "100"},
    ],
)
def test_an_amount_that_the_scripts_cannot_read_is_not_shown(
    operator: Operator, fields: dict[str, str]
) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    operator.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), mapping=fields)
    damaged = (500, "INTERNAL_ERROR")
    assert error_of(operator.of_budget("GET", "/lookup", tenant)) == damaged
    assert error_of(operator.fund(tenant, "CREDIT", 1)) == damaged


def test_a_policy_that_the_contract_does_not_know_is_left_out(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    record = tenant.names.budget(f"tenant:{tenant.name}", UNIT)
    operator.redis.hset(record, mapping={"commit_overage_policy": "W", "rollover_policy": "X"})
    body = operator.of_budget("GET", "/lookup", tenant).json()
    assert body.keys().isdisjoint({"commit_overage_policy", "rollover_policy"})
