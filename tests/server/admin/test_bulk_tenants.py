"""bulkActionTenants: behind its gates, and once for a key."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from support.bulk import SKIPPED, TENANTS, break_off, ids
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key


class Family:
    """Tenants below one parent."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.parent = f"p-{uuid.uuid4().hex[:10]}"
        self.tenants = [operator.tenant(parent_tenant_id=self.parent) for _ in range(4)]

    def act(self, action: str, **more: Any) -> httpx.Response:
        body = {"filter": {"parent_tenant_id": self.parent}, "idempotency_key": new_key()}
        return self.operator.http.post(TENANTS, json={**body, "action": action, **more})

    def names(self) -> list[str]:
        return sorted(tenant.name for tenant in self.tenants)

    def statuses(self) -> set[str]:
        return {
            json.loads(self.operator.redis.get(tenant.names.record))["status"]
            for tenant in self.tenants
        }


@pytest.fixture
def family(operator: Operator) -> Family:
    return Family(operator)


def test_tenants_are_suspended_and_taken_back(family: Family) -> None:
    body = family.act("SUSPEND", expected_count=4).json()
    assert ids(body["succeeded"]) == family.names()
    assert family.statuses() == {"SUSPENDED"}
    again = family.act("SUSPEND").json()
    assert {row["reason"] for row in again["skipped"]} == {SKIPPED}
    assert len(again["skipped"]) == 4
    assert ids(family.act("REACTIVATE").json()["succeeded"]) == family.names()
    assert family.statuses() == {"ACTIVE"}
    entries = [
        entry
        for entry in family.operator.audit("__admin__")
        if entry["operation"] == "bulkActionTenants"
        # Refused ones of other tests have none.
        and entry["metadata"].get("filter") == {"parent_tenant_id": family.parent}
    ]
    assert [entry["metadata"]["action"] for entry in entries] == [
        "SUSPEND",
        "SUSPEND",
        "REACTIVATE",
    ]
    assert {entry["tenant_id"] for entry in entries} == {"__admin__"}


def test_tenants_are_closed_with_all_that_they_own(family: Family) -> None:
    first = family.tenants[0]
    family.operator.budget(first)
    family.operator.http.patch(f"/v1/admin/tenants/{first.name}", json={"status": "SUSPENDED"})
    body = family.act("CLOSE").json()
    assert ids(body["succeeded"]) == family.names()
    assert family.statuses() == {"CLOSED"}
    assert first.stored_budget()["status"] == "CLOSED"
    assert len(family.act("CLOSE").json()["skipped"]) == 4
    # One whose close was not gone through is finished, and counts.
    first.redis.hset(first.names.budget(f"tenant:{first.name}", UNIT), "status", "ACTIVE")
    finished = family.act("CLOSE").json()
    assert ids(finished["succeeded"]) == [first.name]
    for action in ("SUSPEND", "REACTIVATE"):
        failed = family.act(action).json()["failed"]
        assert {row["error_code"] for row in failed} == {"INVALID_TRANSITION"}
        assert len(failed) == 4


def status_of(operator: Operator, tenant_id: str) -> str:
    return str(json.loads(operator.redis.get(operator.keys.tenant(tenant_id).record))["status"])


@pytest.mark.parametrize("action", ["SUSPEND", "CLOSE"])
def test_tenants_of_one_that_was_broken_off_still_count(
    store: RedisServer, mortal: CyclesServer, action: str
) -> None:
    operator = Operator(store.client, mortal.url)
    parent = f"p-{uuid.uuid4().hex[:10]}"
    names = [f"{parent}-{number:03}" for number in range(300)]
    for name in names:
        Tenant(store.client, mortal.url, operator.keys, name).record(parent_tenant_id=parent)
    body = {
        "filter": {"parent_tenant_id": parent},
        "idempotency_key": new_key(),
        "action": action,
    }

    def done() -> int:
        records = store.client.mget([operator.keys.tenant(name).record for name in names])
        return sum(b"ACTIVE" not in record for record in records if record)

    break_off(operator, mortal, TENANTS, body, done)
    assert 0 < done() < len(names)
    if action == "SUSPEND":
        # What somebody else has done since to one that it had suspended stays.
        taken_back = next(name for name in names if status_of(operator, name) == "SUSPENDED")
        operator.http.patch(f"/v1/admin/tenants/{taken_back}", json={"status": "ACTIVE"})
    answer = operator.http.post(TENANTS, json=body).json()
    assert ids(answer["succeeded"]) == names
    assert answer["skipped"] == answer["failed"] == []
    if action == "SUSPEND":
        assert status_of(operator, taken_back) == "ACTIVE"
        operator.http.patch(f"/v1/admin/tenants/{taken_back}", json={"status": "SUSPENDED"})
    again = operator.http.post(TENANTS, json={**body, "idempotency_key": new_key()}).json()
    assert len(again["skipped"]) == len(names)


@pytest.mark.parametrize(
    "wrong",
    [
        {"filter": {}},
        {"filter": {"search": ""}},
        {"filter": {"search": " "}},
        {"filter": {"observe_mode": "x"}},
        {"filter": {"parent_tenant_id": " "}},
        {"filter": {"status": "ACTIVE", "search": " "}},
        {"filter": {"unknown": "x"}},
        {"filter": {"status": "GONE"}},
        {"action": "DELETE"},
        {"allow_close": True},
        {"idempotency_key": " "},
        {"expected_count": -1},
    ],
)
def test_a_bad_request_touches_no_tenant(family: Family, wrong: dict[str, Any]) -> None:
    asked = {"action": "SUSPEND", **wrong}
    refused = family.act(asked.pop("action"), **asked)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert family.statuses() == {"ACTIVE"}


def test_the_gates_of_tenants(family: Family) -> None:
    refused = family.act("SUSPEND", expected_count=3)
    assert error_of(refused) == (409, "COUNT_MISMATCH")
    assert refused.json()["details"]["total_matched"] == 4
    assert family.statuses() == {"ACTIVE"}
    by_name = {"filter": {"search": family.tenants[1].name.upper(), "status": "ACTIVE"}}
    assert ids(family.act("SUSPEND", **by_name).json()["succeeded"]) == [family.tenants[1].name]
