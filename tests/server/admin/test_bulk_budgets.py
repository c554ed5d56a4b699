"""bulkActionBudgets: behind its gates, row by row, and once for a key."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.bulk import BUDGETS, SKIPPED, break_off, ids
from support.crowd import at_once
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key


class Many:
    """A tenant with budgets of every kind."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.tenant: Tenant = operator.tenant()
        self.root = f"tenant:{self.tenant.name}"
        self.ids = {
            below: operator.budget(self.tenant, 100, below)["ledger_id"]
            for below in ("", "/workspace:w1", "/workspace:w10", "/workspace:w1/agent:x")
        }
        self.frozen = operator.budget(self.tenant, 100, "/agent:frozen")["ledger_id"]
        operator.of_budget("POST", "/freeze", self.tenant, "/agent:frozen")
        self.closed = operator.budget(self.tenant, 100, "/agent:closed")["ledger_id"]
        self.set("/agent:closed", status="CLOSED")
        self.credits = operator.budget(self.tenant, 100, unit="CREDITS")["ledger_id"]

    def set(self, below: str, **fields: Any) -> None:
        key = self.tenant.names.budget(self.root + below, UNIT)
        self.operator.redis.hset(key, mapping=fields)

    def remaining(self, below: str = "") -> int:
        return self.tenant.amounts(self.root + below)["remaining"]

    def act(self, action: str, amount: int | None = 5, **more: Any) -> httpx.Response:
        filters = {"tenant_id": self.tenant.name, **more.pop("filter", {})}
        body = {"action": action, "filter": filters, "idempotency_key": new_key(), **more}
        if amount is not None:
            body["amount"] = {"unit": UNIT, "amount": amount}
        return self.operator.http.post(BUDGETS, json=body)


@pytest.fixture
def many(operator: Operator) -> Many:
    return Many(operator)


def test_each_row_goes_its_own_way(many: Many) -> None:
    answer = many.act("CREDIT", reason="top up")
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert (body["action"], body["total_matched"]) == ("CREDIT", 7)
    assert ids(body["succeeded"]) == sorted(many.ids.values())
    codes = {row["id"]: row["error_code"] for row in body["failed"]}
    rows = (many.frozen, many.closed, many.credits)
    assert codes == dict.fromkeys(rows, "INVALID_TRANSITION")
    assert body["skipped"] == []
    assert many.remaining() == many.remaining("/workspace:w1/agent:x") == 105
    assert many.remaining("/agent:frozen") == 100
    (entry,) = [
        entry
        for entry in many.operator.audit(many.tenant.name)
        if entry["operation"] == "bulkActionBudgets"
    ]
    told = entry["metadata"]
    assert (entry["resource_id"], entry["status"]) == ("bulk-action", 200)
    assert told["succeeded_ids"] == [row["id"] for row in body["succeeded"]]
    assert told["failed_rows"] == body["failed"]
    assert (told["reason"], told["actor_type"]) == ("top up", "admin_on_behalf_of")
    assert told["filter"] == {"tenant_id": many.tenant.name}
    # One entry for the call, none for its rows.
    kinds = [entry["operation"] for entry in many.operator.audit(many.tenant.name)]
    assert "fundBudget" not in kinds


def test_debt_is_repaid_and_no_more(many: Many) -> None:
    many.set("", debt=5, remaining=0)
    many.set("/workspace:w1", debt=50, remaining=0)
    body = many.act("REPAY_DEBT", 10, filter={"status": "ACTIVE", "unit": UNIT}).json()
    assert ids(body["succeeded"]) == sorted([many.ids[""], many.ids["/workspace:w1"]])
    assert {row["reason"] for row in body["skipped"]} == {SKIPPED}
    assert len(body["skipped"]) == 2
    amounts = many.tenant.amounts()
    assert (amounts["debt"], amounts["remaining"], amounts["allocated"]) == (0, 5, 100)
    amounts = many.tenant.amounts(f"{many.root}/workspace:w1")
    assert (amounts["debt"], amounts["remaining"], amounts["allocated"]) == (40, 10, 100)


def test_a_debit_fails_where_too_little_is_left(many: Many) -> None:
    many.set("", remaining=4)
    body = many.act("DEBIT", 5, filter={"scope_prefix": many.root, "status": "ACTIVE"}).json()
    codes = {row["id"]: row["error_code"] for row in body["failed"]}
    assert codes == {many.ids[""]: "BUDGET_EXCEEDED", many.credits: "INVALID_TRANSITION"}
    assert many.remaining() == 4
    assert many.remaining("/workspace:w1") == 95


def test_a_subtree_is_not_its_neighbour(many: Many) -> None:
    body = many.act("RESET", 7, filter={"scope_prefix": f"{many.root}/workspace:W1"}).json()
    reached = [many.ids["/workspace:w1"], many.ids["/workspace:w1/agent:x"]]
    assert ids(body["succeeded"]) == sorted(reached)
    assert many.remaining("/workspace:w10") == 100


@pytest.mark.parametrize(
    ("filters", "matched"),
    [
        ({"unit": "CREDITS"}, 1),
        ({"status": "FROZEN"}, 1),
        ({"over_limit": True}, 0),
        ({"has_debt": False, "unit": UNIT}, 6),
        ({"utilization_min": 0.5}, 0),
        ({"utilization_max": 0, "unit": UNIT}, 6),
        ({"search": "AGENT:"}, 3),
    ],
)
def test_the_filter_is_the_lists(many: Many, filters: dict[str, Any], matched: int) -> None:
    listed = many.operator.http.get(
        "/v1/admin/budgets",
        params={"tenant_id": many.tenant.name}
        | {name: json.dumps(v) if not isinstance(v, str) else v for name, v in filters.items()},
    ).json()["ledgers"]
    body = many.act("CREDIT", 0, filter=filters).json()
    assert body["total_matched"] == matched
    reached = body["succeeded"] + body["failed"] + body["skipped"]
    assert ids(reached) == sorted(ledger["ledger_id"] for ledger in listed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": None},
        {"action": "FREEZE"},
        {"filter": {"tenant_id": ""}},
        {"filter": {"unknown": 1}},
        {"filter": {"utilization_min": 2}},
        {"filter": {"utilization_min": 0.6, "utilization_max": 0.5}},
        {"filter": {"search": "s" * 129}},
        {"filter": {"search": " \u00a0"}},
        {"filter": {"scope_prefix": ""}},
        {"filter": {"scope_prefix": " "}},
        {"idempotency_key": ""},
        {"idempotency_key": " "},
        {"idempotency_key": "k" * 129},
        {"expected_count": -1},
        {"reason": "r" * 513},
        {"metadata": {}},
        {"action": "RESET_SPENT", "spent": {"unit": UNIT, "amount": -1}},
        {"action": "RESET_SPENT", "spent": {"unit": "CREDITS", "amount": 1}},
    ],
)
def test_a_bad_request_touches_nothing(many: Many, wrong: dict[str, Any]) -> None:
    asked = {"action": "CREDIT", "amount": 5, **wrong}
    refused = many.act(asked.pop("action"), asked.pop("amount"), **asked)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert many.remaining() == 100


def test_spent_counts_for_reset_spent_alone(many: Many) -> None:
    many.act("CREDIT", 1, spent={"unit": "CREDITS", "amount": 9}, filter={"unit": UNIT})
    assert many.tenant.amounts()["spent"] == 0
    many.act("RESET_SPENT", 50, spent={"unit": UNIT, "amount": 9}, filter={"unit": UNIT})
    assert many.tenant.amounts()["spent"] == 9
    assert many.remaining() == 41


def test_the_gates(many: Many) -> None:
    key = new_key()
    refused = many.act("CREDIT", expected_count=99, idempotency_key=key)
    assert error_of(refused) == (409, "COUNT_MISMATCH")
    assert refused.json()["details"]["total_matched"] == 7
    assert many.remaining() == 100
    # A closed gate does not use the key up.
    assert many.act("CREDIT", expected_count=7, idempotency_key=key).status_code == 200
    none = many.act("CREDIT", expected_count=0, filter={"search": "nothing-like-it"})
    assert none.json()["total_matched"] == 0
    unknown = many.act("CREDIT", filter={"tenant_id": "nobody-here"})
    assert error_of(unknown) == (404, "TENANT_NOT_FOUND")


def test_five_hundred_and_no_more(operator: Operator) -> None:
    tenant = operator.tenant()
    pipe = operator.redis.pipeline(transaction=False)
    for number in range(500):
        scope = f"tenant:{tenant.name}/agent:a{number}"
        row = {"ledger_id": f"l{number}", "tenant_id": tenant.name, "scope": scope, "unit": UNIT}
        row |= {"allocated": "1", "remaining": "1", "status": "ACTIVE"}
        pipe.hset(tenant.names.budget(scope, UNIT), mapping=row)
        pipe.sadd(tenant.names.budgets, tenant.names.budget(scope, UNIT))
    pipe.execute()

    def act() -> httpx.Response:
        body = {"action": "CREDIT", "amount": {"unit": UNIT, "amount": 1}}
        body |= {"filter": {"tenant_id": tenant.name}, "idempotency_key": new_key()}
        return operator.http.post(BUDGETS, json=body)

    assert len(act().json()["succeeded"]) == 500
    operator.budget(tenant)
    refused = act()
    assert error_of(refused) == (400, "LIMIT_EXCEEDED")
    assert refused.json()["details"]["total_matched"] == 501
    assert tenant.amounts()["remaining"] == 1000
    assert tenant.stored_budget(f"tenant:{tenant.name}/agent:a7")["remaining"] == "2"


def test_a_repetition_is_the_first_answer_byte_for_byte(many: Many) -> None:
    key = new_key()
    first = many.act("CREDIT", idempotency_key=key)
    many.set("/agent:frozen", status="ACTIVE")
    again = many.act("CREDIT", idempotency_key=key)
    assert again.content == first.content
    assert many.remaining() == 105
    told = [e["operation"] for e in many.operator.audit(many.tenant.name)]
    assert told.count("bulkActionBudgets") == 1
    other = many.act("CREDIT", 6, idempotency_key=key)
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
    # A single funding under the very same key is another call.
    single = many.operator.fund(many.tenant, "CREDIT", 1, idempotency_key=key)
    assert single.status_code == 200
    assert many.remaining() == 106


def test_ten_at_once_are_one(many: Many) -> None:
    key = new_key()
    answers = at_once([lambda: many.act("CREDIT", idempotency_key=key)] * 10)
    assert len({answer.content for answer in answers}) == 1
    assert many.remaining() == 105


def test_once_its_answer_is_forgotten_the_same_request_is_a_new_one(many: Many) -> None:
    key = new_key()
    for times in (1, 2):
        answer = many.act("CREDIT", idempotency_key=key)
        assert ids(answer.json()["succeeded"]) == sorted(many.ids.values())
        assert [many.remaining(name) for name in many.ids] == [100 + 5 * times] * 4
        # As if a quarter of an hour had passed.
        many.operator.redis.delete(many.tenant.names.bulk_action("bulkActionBudgets", key))


def test_one_that_was_broken_off_is_finished_by_its_repetition(
    store: RedisServer, mortal: CyclesServer
) -> None:
    operator = Operator(store.client, mortal.url)
    tenant = operator.tenant()
    scopes = [f"tenant:{tenant.name}/agent:a{number}" for number in range(490)]
    for scope in scopes:
        tenant.budget(scope, remaining=-5, debt=5, overdraft_limit=9)
    body = {
        "action": "REPAY_DEBT",
        "amount": {"unit": UNIT, "amount": 5},
        # What is done does not match any more, neither the filter nor the count.
        "filter": {"tenant_id": tenant.name, "has_debt": True},
        "expected_count": len(scopes),
        "idempotency_key": new_key(),
    }

    def done() -> int:
        pipe = store.client.pipeline()
        for scope in scopes:
            pipe.hget(tenant.names.budget(scope, UNIT), "debt")
        return pipe.execute().count(b"0")

    break_off(operator, mortal, BUDGETS, body, done)
    assert 0 < done() < len(scopes)
    # Another request is refused by the unfinished one, too.
    other = operator.http.post(BUDGETS, json={**body, "reason": "other"})
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
    again = operator.http.post(BUDGETS, json=body)
    assert again.status_code == 200, again.text
    assert len(again.json()["succeeded"]) == again.json()["total_matched"] == len(scopes)
    assert {tenant.amounts(scope)["remaining"] for scope in scopes} == {0}
    assert done() == len(scopes)
    assert operator.http.post(BUDGETS, json=body).content == again.content
    told = [entry["operation"] for entry in operator.audit(tenant.name)]
    assert told.count("bulkActionBudgets") == 1


def test_a_closed_tenants_rows_all_fail(many: Many) -> None:
    many.tenant.record(status="CLOSED")
    body = many.act("CREDIT", filter={"unit": UNIT}).json()
    assert {row["error_code"] for row in body["failed"]} == {"TENANT_CLOSED"}
    assert len(body["failed"]) == 6
    assert many.remaining() == 100


@pytest.mark.parametrize("filters", [{"unit": UNIT}, {"utilization_max": 1, "unit": UNIT}])
@pytest.mark.parametrize(
    "damage",
    [
        {"reserved": "1.5"},
        {"allocated": "garbage"},
        {"allocated": " 5"},
        {"spent": "1_0"},
        {"spent": "-5"},
        {"status": "GONE"},
    ],
)
def test_a_damaged_row_is_counted_and_fails(
    many: Many, admin: CyclesServer, damage: dict[str, str], filters: dict[str, Any]
) -> None:
    many.set("", **damage)
    answer = many.act("CREDIT", filter=filters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    codes = {row["id"]: row["error_code"] for row in body["failed"]}
    assert codes[many.ids[""]] == "INTERNAL_ERROR"
    assert body["total_matched"] == 6
    assert many.remaining("/workspace:w1") == 105
    told = [
        line
        for line in admin.log.read_text().splitlines()
        if many.ids[""] in line and "bulkActionBudgets" in line
    ]
    assert len(told) == 1
    many.set("", reserved="0", allocated="100", spent="0", status="ACTIVE")


def test_a_row_that_is_no_budget_at_all(many: Many) -> None:
    key = many.tenant.names.budget(many.root, UNIT)
    many.operator.redis.delete(key)
    many.operator.redis.set(key, "x")
    body = many.act("CREDIT", filter={"unit": UNIT}).json()
    codes = {row["id"]: row["error_code"] for row in body["failed"]}
    assert codes[f"{many.root}:{UNIT}"] == "INTERNAL_ERROR"
    assert many.remaining("/workspace:w1") == 105
    many.operator.redis.delete(key)
    many.operator.redis.srem(many.tenant.names.budgets, key)


def test_what_spent_was_set_to_is_told(many: Many) -> None:
    spent = {"unit": UNIT, "amount": 7}
    for more, told in (
        ({"spent": spent}, {"spent": 7, "spent_override_provided": True}),
        ({}, {"spent_override_provided": False}),
    ):
        assert many.act("RESET_SPENT", 50, **more).status_code == 200
        entry = many.operator.audit(many.tenant.name)[-1]["metadata"]
        shown = {name: value for name, value in entry.items() if name.startswith("spent")}
        assert shown == told
