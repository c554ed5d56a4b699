"""Each change leaves one entry, and none without a change, whatever happens to the server."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from support.audit import BY_OPERATOR, UNAUTHENTICATED, entries_of, refusal_entry
from support.crowd import at_once
from support.operator import Operator
from support.running import StartServer
from support.server import ADMIN_KEY
from support.tenants import UNIT, Tenant, new_key

TENANTS, BUDGETS = "/v1/admin/tenants", "/v1/admin/budgets"
Step = Callable[[Operator, Tenant], httpx.Response]


def create_tenant(operator: Operator, tenant: Tenant, **members: Any) -> httpx.Response:
    return operator.http.post(TENANTS, json={"tenant_id": tenant.name, "name": "n", **members})


def update_tenant(operator: Operator, tenant: Tenant, **members: Any) -> httpx.Response:
    return operator.http.patch(f"{TENANTS}/{tenant.name}", json=members)


def create_budget(operator: Operator, tenant: Tenant, below: str = "/app:new") -> httpx.Response:
    body = {
        "tenant_id": tenant.name,
        "scope": f"tenant:{tenant.name}{below}",
        "unit": UNIT,
        "allocated": {"unit": UNIT, "amount": 5},
    }
    return operator.http.post(BUDGETS, json=body)


def frozen(operator: Operator, tenant: Tenant) -> httpx.Response:
    assert operator.of_budget("POST", "/freeze", tenant).status_code == 200
    return operator.of_budget("POST", "/unfreeze", tenant)


LIMIT = {"overdraft_limit": {"unit": UNIT, "amount": 7}}
CHANGES: dict[str, tuple[Step, Step]] = {
    "createTenant": (
        lambda operator, tenant: create_tenant(operator, Tenant(tenant.redis, tenant.url)),
        lambda operator, tenant: create_tenant(operator, tenant, name="another"),
    ),
    "updateTenant": (
        lambda operator, tenant: update_tenant(operator, tenant, name="another"),
        lambda operator, tenant: update_tenant(operator, tenant, colour="blue"),
    ),
    "createBudget": (
        create_budget,
        lambda operator, tenant: create_budget(operator, tenant, below=""),
    ),
    "updateBudget": (
        lambda operator, tenant: operator.of_budget("PATCH", "", tenant, body=LIMIT),
        lambda operator, tenant: operator.of_budget("PATCH", "", tenant, "/app:no", body=LIMIT),
    ),
    "freezeBudget": (
        lambda operator, tenant: operator.of_budget("POST", "/freeze", tenant),
        lambda operator, tenant: operator.of_budget("POST", "/freeze", tenant, "/app:no"),
    ),
    "unfreezeBudget": (
        frozen,
        lambda operator, tenant: operator.of_budget("POST", "/unfreeze", tenant),
    ),
    "fundBudget": (
        lambda operator, tenant: operator.fund(tenant, "CREDIT", 5),
        lambda operator, tenant: operator.fund(tenant, "DEBIT", 1_000_000),
    ),
}
"""For each operation a call that changes something, and one that is refused."""


def named(operator: Operator, answer: httpx.Response, owner: str) -> list[tuple[str, int]]:
    found = entries_of(operator, owner, answer)
    return [(entry["operation"], entry["status"]) for entry in found]


@pytest.mark.parametrize("operation", CHANGES)
def test_one_entry_each(operator: Operator, operation: str) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    change, refuse = CHANGES[operation]
    done = change(operator, tenant)
    assert done.is_success, done.text
    body = done.json()
    owner = body.get("tenant_id", tenant.name)
    assert named(operator, done, owner) == [(operation, done.status_code)]
    assert named(operator, done, BY_OPERATOR) == []
    before = len(operator.audit(tenant.name))
    refused = refuse(operator, tenant)
    entry = refusal_entry(operator, BY_OPERATOR, refused)
    assert entry["operation"] == operation
    assert (entry["status"], entry["error_code"]) == (refused.status_code, refused.json()["error"])
    assert len(operator.audit(tenant.name)) == before


@pytest.mark.parametrize("by_key", [False, True])
def test_a_funding_that_is_repeated_leaves_no_second(operator: Operator, by_key: bool) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    tenant.write_key(permissions=["budgets:write"])
    body = {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": 5}, "idempotency_key": "k"}

    def fund(**changes: Any) -> httpx.Response:
        http = tenant.http if by_key else operator.http
        query = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
        query |= {} if by_key else {"tenant_id": tenant.name}
        return http.post(f"{BUDGETS}/fund", params=query, json={**body, **changes})

    first, again = fund(), fund()
    assert first.json() == again.json()
    assert named(operator, first, tenant.name) == [("fundBudget", 200)]
    assert named(operator, again, tenant.name) == []
    other = fund(reason="another")
    owner = tenant.name if by_key else BY_OPERATOR
    assert refusal_entry(operator, owner, other)["error_code"] == "IDEMPOTENCY_MISMATCH"


def test_a_mutation_that_nobody_may_make(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    tenant.write_key(permissions=["budgets:read"])
    query = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    body = {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": 5}}
    lacking = tenant.http.post(f"{BUDGETS}/fund", params=query, json=body)
    assert refusal_entry(operator, tenant.name, lacking)["key_id"] == tenant.key_id
    tenant.write_key(permissions=["budgets:write"])
    assert tenant.http.post(f"{BUDGETS}/fund", params=query, json=body).status_code == 200
    # The server remembers the key; its script finds it changed.
    tenant.write_key(status="REVOKED")
    revoked = tenant.http.post(f"{BUDGETS}/fund", params=query, json=body)
    assert revoked.status_code == 401
    refusal_entry(operator, UNAUTHENTICATED, revoked)
    assert entries_of(operator, tenant.name, revoked) == []


def test_a_server_that_is_killed_tells_of_every_funding(start: StartServer) -> None:
    """The change and its entry are one step: whenever the server dies, both are there or none."""
    running = start(arguments=("admin",))
    operator = Operator(running.redis, running.url)
    tenant = operator.tenant()
    operator.budget(tenant, allocated=0)
    answered: list[str] = []
    enough = threading.Event()

    def fund() -> None:
        with httpx.Client(
            base_url=running.url, headers={"X-Admin-API-Key": ADMIN_KEY}, timeout=30
        ) as http:
            while True:
                body = {
                    "operation": "CREDIT",
                    "amount": {"unit": UNIT, "amount": 3},
                    "idempotency_key": new_key(),
                }
                query = {
                    "scope": f"tenant:{tenant.name}",
                    "unit": UNIT,
                    "tenant_id": tenant.name,
                }
                try:
                    done = http.post(f"{BUDGETS}/fund", params=query, json=body)
                except httpx.TransportError:
                    return
                assert done.status_code == 200, done.text
                answered.append(done.headers["x-request-id"])
                if len(answered) > random.randint(200, 400):
                    enough.set()

    threads = [threading.Thread(target=fund) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    running.server.kill()
    for thread in threads:
        thread.join()
    entries = [one for one in operator.audit(tenant.name) if one["operation"] == "fundBudget"]
    allocated = tenant.amounts()["allocated"]
    assert allocated == 3 * len(entries)
    assert set(answered) <= {entry["request_id"] for entry in entries}
    # Each entry tells one step of the way.
    steps = sorted(entry["metadata"]["new_allocated"] for entry in entries)
    assert steps == list(range(3, allocated + 1, 3))
    assert len({entry["log_id"] for entry in entries}) == len(entries)


def test_entries_of_many_at_once_are_all_there(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)

    def call(number: int) -> str:
        if number % 2:
            done = operator.fund(tenant, "CREDIT", 1, idempotency_key=uuid.uuid4().hex)
        else:
            done = operator.fund(tenant, "DEBIT", 10_000_000)
        return done.headers["x-request-id"]

    requests = at_once([partial(call, number) for number in range(40)])
    found = [
        entry["request_id"]
        for owner in (tenant.name, BY_OPERATOR)
        for entry in operator.audit(owner)
        if entry["request_id"] in requests
    ]
    assert sorted(found) == sorted(requests)


def test_no_entry_of_a_change_holds_a_secret(operator: Operator) -> None:
    tenant = operator.tenant()
    body = {"tenant_id": tenant.name, "name": "first"}
    made = operator.http.post("/v1/admin/api-keys", json=body).json()
    secret = made["key_secret"]
    hashed = json.loads(operator.redis.get(tenant.names.api_key(made["key_id"])))["key_hash"]
    answer = operator.http.delete(
        f"/v1/admin/api-keys/{made['key_id']}",
        params={"reason": f'found "{secret}" in a log, and {hashed}'},
        headers={"User-Agent": f"cli {ADMIN_KEY} {secret}"},
    )
    assert answer.status_code == 200
    [entry] = entries_of(operator, tenant.name, answer)
    assert entry["metadata"]["reason"] == 'found "…" in a log, and …'
    kept = str(operator.audit(tenant.name))
    assert [one for one in (secret, hashed, ADMIN_KEY) if one in kept] == []
