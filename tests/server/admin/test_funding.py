"""Funding: exact over int64, once for each key, and told of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx
import pytest
from support.crowd import at_once
from support.operator import Operator
from support.tenants import UNIT, Tenant, error_of, new_key

MAX = 2**63 - 1
BEYOND = 2**53 + 1
NAMES = ("allocated", "remaining", "reserved", "spent", "debt")


def amounts(answer: httpx.Response, when: str) -> dict[str, int]:
    body = answer.json()
    return {
        name: body[f"{when}_{name}"]["amount"]
        for name in ("allocated", "remaining", "debt", "spent")
    }


def prepared(operator: Operator, **fields: Any) -> Tenant:
    """A tenant whose budget has amounts that only spending brings about."""
    tenant = operator.tenant()
    operator.budget(tenant)
    if fields:
        operator.redis.hset(
            tenant.names.budget(f"tenant:{tenant.name}", UNIT), mapping=dict(fields)
        )
    return tenant


@pytest.mark.parametrize(
    ("fields", "operation", "amount", "more", "changed"),
    [
        ({}, "CREDIT", 100, {}, {"allocated": 1100, "remaining": 1100}),
        ({}, "CREDIT", 0, {}, {}),
        ({}, "DEBIT", 1000, {}, {"allocated": 0, "remaining": 0}),
        (
            {"remaining": 100, "spent": 900},
            "DEBIT",
            100,
            {},
            {"allocated": 900, "remaining": 0},
        ),
        ({"remaining": -250, "debt": 9}, "CREDIT", 10, {}, {"allocated": 1010, "remaining": -240}),
        (
            {"reserved": 100, "spent": 200, "debt": 50},
            "RESET",
            1000,
            {},
            {"allocated": 1000, "remaining": 650},
        ),
        (
            {"reserved": 100, "spent": 200, "debt": 50},
            "RESET",
            100,
            {},
            {"allocated": 100, "remaining": -250},
        ),
        (
            {"reserved": 100, "spent": 200},
            "RESET_SPENT",
            1000,
            {},
            {"spent": 0, "remaining": 900},
        ),
        (
            {"reserved": 100, "spent": 300, "debt": 5},
            "RESET_SPENT",
            1000,
            {"spent": {"unit": UNIT, "amount": 2000}},
            {"spent": 2000, "remaining": -1105},
        ),
        ({"spent": 7}, "CREDIT", 1, {"spent": {"unit": "CREDITS", "amount": 5}}, None),
        (
            {"debt": 50, "remaining": 0},
            "REPAY_DEBT",
            20,
            {},
            {"debt": 30, "remaining": 20},
        ),
        (
            {"debt": 30, "remaining": 0},
            "REPAY_DEBT",
            100,
            {},
            {"debt": 0, "remaining": 100, "allocated": 1070},
        ),
        ({}, "REPAY_DEBT", 5, {}, {"allocated": 1005, "remaining": 1005}),
        (
            {"allocated": BEYOND, "remaining": BEYOND},
            "CREDIT",
            0,
            {},
            {"allocated": BEYOND, "remaining": BEYOND},
        ),
        (
            {"allocated": BEYOND, "remaining": BEYOND},
            "CREDIT",
            1,
            {},
            {"allocated": BEYOND + 1, "remaining": BEYOND + 1},
        ),
        ({}, "RESET", BEYOND, {}, {"allocated": BEYOND, "remaining": BEYOND}),
        ({}, "RESET", MAX, {}, {"allocated": MAX, "remaining": MAX}),
        (
            {"allocated": MAX, "remaining": MAX},
            "CREDIT",
            0,
            {},
            {"allocated": MAX, "remaining": MAX},
        ),
        ({"reserved": MAX, "spent": 1}, "RESET", 0, {}, {"allocated": 0, "remaining": -(2**63)}),
        *(
            ({"reserved": BEYOND, "spent": BEYOND, "debt": 5}, operation, 3, {}, changed)
            for operation, changed in (
                ("CREDIT", {"allocated": 1003, "remaining": 1003}),
                ("DEBIT", {"allocated": 997, "remaining": 997}),
                ("REPAY_DEBT", {"debt": 2, "remaining": 1003}),
                ("RESET_SPENT", {"allocated": 3, "spent": 0, "remaining": 3 - BEYOND - 5}),
            )
        ),
        (
            {},
            "RESET_SPENT",
            BEYOND,
            {"spent": {"unit": UNIT, "amount": BEYOND + 2}},
            {"allocated": BEYOND, "spent": BEYOND + 2, "remaining": -2},
        ),
        (
            {},
            "RESET_SPENT",
            0,
            {"spent": {"unit": UNIT, "amount": MAX}},
            {"allocated": 0, "spent": MAX, "remaining": -MAX},
        ),
        (
            {"debt": MAX, "remaining": 0, "allocated": MAX},
            "REPAY_DEBT",
            MAX,
            {},
            {"debt": 0, "remaining": MAX},
        ),
    ],
)
def test_what_each_operation_does(
    operator: Operator,
    fields: dict[str, int],
    operation: str,
    amount: int,
    more: dict[str, Any],
    changed: Mapping[str, int] | None,
) -> None:
    tenant = prepared(operator, **fields)
    before = tenant.amounts()
    answer = operator.fund(tenant, operation, amount, **more)
    assert answer.status_code == 200, answer.text
    after = tenant.amounts()
    if changed is None:
        changed = {"allocated": 1001, "remaining": 1001}
    assert after == {**before, **changed}
    assert amounts(answer, "previous") == {k: v for k, v in before.items() if k != "reserved"}
    assert amounts(answer, "new") == {k: v for k, v in after.items() if k != "reserved"}
    stored = tenant.stored_budget()
    assert stored["is_over_limit"] == ("true" if after["debt"] > 0 else "false")
    entry = operator.audit(tenant.name)[-1]
    assert entry["operation"] == "fundBudget"
    assert entry["resource_id"] == stored["ledger_id"]
    told = entry["metadata"]
    assert (told["funding_operation"], told["amount"]) == (operation, amount)
    assert told["actor_type"] == "admin_on_behalf_of"
    assert told["new_remaining"] == after["remaining"]


@pytest.mark.parametrize(
    ("fields", "operation", "amount", "more", "error"),
    [
        ({}, "DEBIT", 1001, {}, (409, "BUDGET_EXCEEDED")),
        ({"remaining": -240}, "DEBIT", 1, {}, (409, "BUDGET_EXCEEDED")),
        (
            {"allocated": 2**53, "remaining": 2**53},
            "DEBIT",
            BEYOND,
            {},
            (409, "BUDGET_EXCEEDED"),
        ),
        ({"allocated": MAX, "remaining": MAX}, "CREDIT", 1, {}, (400, "INVALID_REQUEST")),
        ({"reserved": MAX, "spent": MAX}, "RESET", 0, {}, (400, "INVALID_REQUEST")),
        ({"remaining": 1}, "REPAY_DEBT", MAX, {}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", -1, {}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", MAX + 1, {}, (400, "INVALID_REQUEST")),
        ({}, "BOGUS", 1, {}, (400, "INVALID_REQUEST")),
        ({}, "credit", 1, {}, (400, "INVALID_REQUEST")),
        ({}, 0, 1, {}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", 5.5, {}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", "7", {}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", 1, {"reason": "r" * 513}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", 1, {"idempotency_key": ""}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", 1, {"idempotency_key": "k" * 257}, (400, "INVALID_REQUEST")),
        ({}, "CREDIT", 1, {"foo": 1}, (400, "INVALID_REQUEST")),
        (
            {},
            "RESET_SPENT",
            1,
            {"spent": {"unit": "CREDITS", "amount": 1}},
            (400, "UNIT_MISMATCH"),
        ),
        ({}, "RESET_SPENT", 1, {"spent": {"unit": UNIT, "amount": -1}}, (400, "INVALID_REQUEST")),
        ({"status": "FROZEN"}, "CREDIT", 1, {}, (409, "BUDGET_FROZEN")),
        ({"status": "CLOSED"}, "CREDIT", 1, {}, (409, "BUDGET_CLOSED")),
        ({"status": "PAUSED"}, "CREDIT", 1, {}, (500, "INTERNAL_ERROR")),
        ({"spent": "5.5"}, "CREDIT", 1, {}, (500, "INTERNAL_ERROR")),
        ({"debt": 2**63}, "CREDIT", 1, {}, (500, "INTERNAL_ERROR")),
        ({"spent": -5}, "CREDIT", 1, {}, (500, "INTERNAL_ERROR")),
        ({"debt": -1}, "RESET", 1, {}, (500, "INTERNAL_ERROR")),
        ({"overdraft_limit": -1}, "CREDIT", 1, {}, (500, "INTERNAL_ERROR")),
        ({"reserved": -1}, "RESET_SPENT", 1, {}, (500, "INTERNAL_ERROR")),
        (
            {"reserved": 1, "debt": 1},
            "RESET_SPENT",
            0,
            {"spent": {"unit": UNIT, "amount": MAX}},
            (400, "INVALID_REQUEST"),
        ),
    ],
)
def test_what_is_refused_moves_nothing(
    operator: Operator,
    fields: dict[str, Any],
    operation: Any,
    amount: Any,
    more: dict[str, Any],
    error: tuple[int, str],
) -> None:
    tenant = prepared(operator, **fields)
    before = tenant.stored_budget()
    told = len(fundings(operator, tenant))
    assert error_of(operator.fund(tenant, operation, amount, **more)) == error
    assert tenant.stored_budget() == before
    assert len(fundings(operator, tenant)) == told


def fundings(operator: Operator, tenant: Tenant) -> list[dict[str, Any]]:
    """The entries of fundings that were done."""
    return [
        entry
        for entry in operator.audit(tenant.name)
        if entry["operation"] == "fundBudget" and entry["status"] == 200
    ]


# -- idempotency -----------------------------------------------------------------------------------


def test_a_repetition_is_the_first_answer_and_no_second_change(operator: Operator) -> None:
    tenant = prepared(operator)
    key = new_key()
    first = operator.fund(tenant, "CREDIT", 5, idempotency_key=key)
    tenant.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), "status", "FROZEN")
    again = operator.fund(tenant, "CREDIT", 5, idempotency_key=key)
    assert again.content == first.content
    assert tenant.amounts()["remaining"] == 1005
    assert len(fundings(operator, tenant)) == 1


@pytest.mark.parametrize(
    ("operation", "amount", "more"),
    [
        ("CREDIT", 6, {}),
        ("DEBIT", 5, {}),
        ("CREDIT", 5, {"reason": "other"}),
        ("CREDIT", 5, {"metadata": {"a": 1}}),
    ],
)
def test_a_used_key_with_another_request(
    operator: Operator, operation: str, amount: int, more: dict[str, Any]
) -> None:
    tenant = prepared(operator)
    key = new_key()
    operator.fund(tenant, "CREDIT", 5, idempotency_key=key)
    refused = operator.fund(tenant, operation, amount, idempotency_key=key, **more)
    assert error_of(refused) == (409, "IDEMPOTENCY_MISMATCH")
    assert tenant.amounts()["remaining"] == 1005


def test_large_amounts_that_a_double_cannot_tell_apart_are_two_requests(
    operator: Operator,
) -> None:
    tenant = prepared(operator)
    key = new_key()
    operator.fund(tenant, "RESET", 2**53, idempotency_key=key)
    refused = operator.fund(tenant, "RESET", 2**53 + 1, idempotency_key=key)
    assert error_of(refused) == (409, "IDEMPOTENCY_MISMATCH")


def test_a_key_belongs_to_one_ledger(operator: Operator) -> None:
    one, other = prepared(operator), prepared(operator)
    operator.budget(one, below="/agent:a")
    key = new_key()
    for tenant, below in ((one, ""), (one, "/agent:a"), (other, "")):
        answer = operator.fund(tenant, "CREDIT", 5, below=below, idempotency_key=key)
        assert answer.status_code == 200
        assert tenant.amounts(f"tenant:{tenant.name}{below}")["remaining"] == 1005
    missing = operator.fund(other, "CREDIT", 5, below="/agent:a", idempotency_key=key)
    assert error_of(missing) == (404, "BUDGET_NOT_FOUND")


@pytest.mark.parametrize("suffix", [":hash", ":", "*", "\n", " ", "é" * 250])
def test_keys_never_share_a_slot(operator: Operator, suffix: str) -> None:
    tenant = prepared(operator)
    for key in ("a", f"a{suffix}", suffix):
        for _ in range(2):
            answer = operator.fund(tenant, "CREDIT", 1, idempotency_key=key)
            assert answer.status_code == 200, answer.text
    assert tenant.amounts()["remaining"] == 1003


def test_a_refusal_does_not_use_up_its_key(operator: Operator) -> None:
    tenant = prepared(operator)
    key = new_key()
    assert operator.fund(tenant, "DEBIT", 1500, idempotency_key=key).status_code == 409
    operator.fund(tenant, "CREDIT", 500)
    assert operator.fund(tenant, "DEBIT", 1500, idempotency_key=key).status_code == 200
    assert tenant.amounts()["remaining"] == 0


def test_without_a_key_each_call_counts(operator: Operator) -> None:
    tenant = prepared(operator)
    for _ in range(2):
        operator.fund(tenant, "CREDIT", 1)
    assert tenant.amounts()["remaining"] == 1002


def test_forty_at_once_change_it_once(operator: Operator) -> None:
    tenant = prepared(operator)
    key = new_key()
    credit = partial(operator.fund, tenant, "CREDIT", 5, idempotency_key=key)
    assert len({answer.content for answer in at_once([credit] * 40)}) == 1
    assert tenant.amounts()["remaining"] == 1005
    assert len(fundings(operator, tenant)) == 1


# -- who may ---------------------------------------------------------------------------------------


def by_key(tenant: Tenant, operation: str, amount: int, scope: str, **query: str) -> httpx.Response:
    return tenant.http.post(
        "/v1/admin/budgets/fund",
        params={"scope": scope, "unit": UNIT, **query},
        json={"operation": operation, "amount": {"unit": UNIT, "amount": amount}},
    )


def test_a_tenants_own_key_funds_its_own_budgets(operator: Operator) -> None:
    tenant, other = prepared(operator), prepared(operator)
    scope = f"tenant:{tenant.name}"
    # The parameter is the operator's; a key says by itself whose it is.
    assert by_key(tenant, "CREDIT", 5, scope.upper(), tenant_id=other.name).status_code == 200
    assert tenant.amounts()["remaining"] == 1005
    assert other.amounts()["remaining"] == 1000
    told = fundings(operator, tenant)[0]
    assert told["key_id"] == tenant.key_id
    assert told["metadata"]["actor_type"] == "api_key"
    assert told["metadata"]["scope"] == scope
    refused = by_key(other, "CREDIT", 5, scope)
    assert error_of(refused) == (404, "BUDGET_NOT_FOUND")
    assert tenant.amounts()["remaining"] == 1005


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ({"permissions": ["budgets:read"]}, (403, "INSUFFICIENT_PERMISSIONS")),
        ({"permissions": ["admin:read"]}, (403, "INSUFFICIENT_PERMISSIONS")),
        ({"permissions": ["admin:budgets:write"]}, (403, "INSUFFICIENT_PERMISSIONS")),
        ({"permissions": ["budgets:write"], "scope_filter": ["agent:a"]}, (403, "FORBIDDEN")),
        ({"permissions": ["admin:write"]}, None),
        ({"status": "REVOKED"}, (401, "UNAUTHORIZED")),
    ],
)
def test_what_a_key_must_be_allowed(
    operator: Operator, key: dict[str, Any], error: tuple[int, str] | None
) -> None:
    tenant = prepared(operator)
    tenant.http.headers["X-Cycles-API-Key"] = tenant.new_key(**key)
    answer = by_key(tenant, "CREDIT", 5, f"tenant:{tenant.name}")
    if error is None:
        assert answer.status_code == 200
    else:
        assert error_of(answer) == error
        assert tenant.amounts()["remaining"] == 1000


def test_a_budget_whose_record_names_no_tenant_is_that_of_its_scope(operator: Operator) -> None:
    tenant, other = prepared(operator), operator.tenant()
    scope = f"tenant:{tenant.name}"
    operator.redis.hdel(tenant.names.budget(scope, UNIT), "tenant_id")
    assert error_of(by_key(other, "DEBIT", 10, scope)) == (404, "BUDGET_NOT_FOUND")
    query = {"tenant_id": other.name, "scope": scope, "unit": UNIT}
    body = {"operation": "DEBIT", "amount": {"unit": UNIT, "amount": 10}}
    named = operator.http.post("/v1/admin/budgets/fund", params=query, json=body)
    assert error_of(named) == (404, "BUDGET_NOT_FOUND")
    # A stray entry in the other's set does not make it the other's when that tenant is closed.
    operator.redis.sadd(other.names.budgets, tenant.names.budget(scope, UNIT))
    closed = operator.http.patch(f"/v1/admin/tenants/{other.name}", json={"status": "CLOSED"})
    assert closed.status_code == 200
    assert tenant.amounts()["remaining"] == 1_000
    assert by_key(tenant, "DEBIT", 10, scope).status_code == 200
    assert tenant.amounts()["remaining"] == 990


def test_the_operator_says_whose_it_is(operator: Operator) -> None:
    tenant, other = prepared(operator), prepared(operator)
    path, body = (
        "/v1/admin/budgets/fund",
        {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": 1}},
    )
    query = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    for named in ({}, {"tenant_id": ""}, {"tenant_id": " "}):
        refused = operator.http.post(path, params={**query, **named}, json=body)
        assert error_of(refused) == (400, "INVALID_REQUEST")
        assert "tenant_id" in refused.json()["message"]
    for owner in (other.name, "nobody-here"):
        refused = operator.http.post(path, params={**query, "tenant_id": owner}, json=body)
        assert error_of(refused) == (404, "BUDGET_NOT_FOUND")
    assert tenant.amounts()["remaining"] == 1000


def test_a_closed_tenants_budgets_are_not_funded(operator: Operator) -> None:
    tenant = prepared(operator)
    tenant.record(status="CLOSED")
    assert error_of(operator.fund(tenant, "CREDIT", 5)) == (409, "TENANT_CLOSED")
    assert tenant.amounts()["remaining"] == 1000
    tenant.record(status="SUSPENDED")  # operators keep control
    assert operator.fund(tenant, "CREDIT", 5).status_code == 200


def test_credits_and_debits_at_once_come_out_even(operator: Operator) -> None:
    tenant = prepared(operator)
    seen: list[tuple[int, int]] = []

    def move(operation: str) -> None:
        for _ in range(25):
            answer = operator.fund(tenant, operation, 1).json()
            before, after = answer["previous_remaining"], answer["new_remaining"]
            seen.append((before["amount"], after["amount"]))

    at_once([partial(move, operation) for operation in ("CREDIT", "DEBIT") * 2])
    assert tenant.amounts() == dict(zip(NAMES, (1000, 1000, 0, 0, 0), strict=True))
    # One order explains them all: each state is left as often as it is entered.
    left, entered = sorted(before for before, _ in seen), sorted(after for _, after in seen)
    assert left == entered
