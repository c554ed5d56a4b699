"""A tenant's close: what it owns follows, once, and nothing of it can be changed any more."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.crowd import at_once
from support.operator import Operator
from support.running import Running
from support.server import ADMIN_KEY
from support.tenants import UNIT, Tenant, error_of, new_key

KINDS = {
    "reservation.released_via_tenant_cascade",
    "budget.closed_via_tenant_cascade",
    "api_key.revoked_via_tenant_cascade",
    "webhook.disabled_via_tenant_cascade",
}


class Owner:
    """A tenant on both planes, with something of every kind."""

    def __init__(self, operator: Operator, running: Running) -> None:
        self.operator = operator
        self.tenant = operator.tenant()
        # The same tenant and key, at the runtime plane.
        self.runtime = httpx.Client(base_url=running.url, headers=self.tenant.http.headers)
        self.scope = f"tenant:{self.tenant.name}"
        operator.budget(self.tenant, 1000)
        operator.budget(self.tenant, 500, "/agent:a")
        operator.budget(self.tenant, 100, "/agent:frozen")
        operator.of_budget("POST", "/freeze", self.tenant, "/agent:frozen")
        self.closed_at = "1760000000000"
        self.tenant.budget(f"{self.scope}/agent:old", 7, status="CLOSED", closed_at=self.closed_at)
        self.webhooks = {
            status: self.webhook(status) for status in ("ACTIVE", "PAUSED", "DISABLED")
        }

    def webhook(self, status: str) -> str:
        name = f"whsub_{uuid.uuid4().hex[:16]}"
        record = {"subscription_id": name, "tenant_id": self.tenant.name, "status": status}
        self.tenant.redis.set(self.tenant.names.webhook(name), json.dumps(record))
        self.tenant.redis.sadd(self.tenant.names.webhooks(), name)
        return name

    def reserve(self, amount: int, **more: Any) -> httpx.Response:
        body = self.tenant.reserve_body(amount, subject=self.tenant.subject(agent="a"), **more)
        return self.runtime.post("/v1/reservations", json=body)

    def close(self, **members: Any) -> httpx.Response:
        path = f"/v1/admin/tenants/{self.tenant.name}"
        return self.operator.http.patch(path, json={"status": "CLOSED", **members})

    def state(self) -> dict[str, Any]:
        """Whatever a second close must not change."""
        names, redis = self.tenant.names, self.tenant.redis
        return {
            "record": redis.get(names.record),
            "budgets": {key: redis.hgetall(key) for key in redis.smembers(names.budgets)},
            "keys": [
                redis.get(names.api_key(k.decode())) for k in redis.smembers(names.api_keys())
            ],
            "webhooks": [
                redis.get(self.tenant.names.webhook(name)) for name in self.webhooks.values()
            ],
        }

    def kinds(self) -> list[str]:
        told = [entry["operation"] for entry in self.operator.audit(self.tenant.name)]
        return sorted(kind for kind in told if kind in KINDS)


@pytest.fixture
def owner(operator: Operator, running: Running) -> Iterator[Owner]:
    owner = Owner(operator, running)
    yield owner
    owner.runtime.close()


def test_all_that_it_owns_ends(owner: Owner) -> None:
    tenant, redis = owner.tenant, owner.tenant.redis
    holds = [owner.reserve(10).json()["reservation_id"] for _ in range(3)]
    assert tenant.amounts()["reserved"] == 30
    answer = owner.close(name="Gone")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["name"]) == ("CLOSED", "Gone")
    assert body["closed_at"] == body["updated_at"]
    for below, allocated in (("", 1000), ("/agent:a", 500), ("/agent:frozen", 100)):
        stored = tenant.stored_budget(owner.scope + below)
        assert stored["status"] == "CLOSED"
        assert stored["closed_at"] == stored["updated_at"]
        assert (stored["reserved"], stored["remaining"]) == ("0", str(allocated))
        assert stored["allocated"] == str(allocated)
    assert tenant.stored_budget(f"{owner.scope}/agent:old")["closed_at"] == owner.closed_at
    for hold in holds:
        row = redis.hgetall(tenant.names.reservation(hold))
        assert row[b"state"] == b"RELEASED"
        assert redis.zscore(tenant.names.ttl, hold) is None
        assert redis.pttl(tenant.names.reservation(hold)) > 0
    key = json.loads(redis.get(tenant.names.api_key(tenant.key_id)))
    assert (key["status"], key["revoked_reason"]) == ("REVOKED", "tenant_closed")
    states = {
        was: json.loads(redis.get(tenant.names.webhook(name)))["status"]
        for was, name in owner.webhooks.items()
    }
    assert states == dict.fromkeys(("ACTIVE", "PAUSED", "DISABLED"), "DISABLED")
    assert not redis.hexists(tenant.names.closings, tenant.name)
    entries = owner.operator.audit(tenant.name)
    (first,) = [entry for entry in entries if entry["operation"] == "updateTenant"]
    told = [entry for entry in entries if entry["operation"] in KINDS]
    assert len(told) == 3 + 3 + 1 + 2
    assert {entry["request_id"] for entry in told} == {answer.headers["x-request-id"]}
    assert {entry["trace_id"] for entry in told} == {first["trace_id"]}
    assert {entry["tenant_id"] for entry in told} == {tenant.name}
    assert all(entry["metadata"]["cascade_reason"] == "tenant_closed" for entry in told)
    released = [e for e in told if e["operation"].startswith("reservation")]
    assert sorted(entry["resource_id"] for entry in released) == sorted(holds)
    assert {entry["metadata"]["released_amount"] for entry in released} == {10}


def test_a_second_close_changes_nothing_and_tells_nothing_again(owner: Owner) -> None:
    owner.reserve(10)
    owner.close()
    before, told = owner.state(), owner.kinds()
    again = owner.close(name="Other")
    assert again.status_code == 200
    assert again.json()["name"] != "Other"
    assert (owner.state(), owner.kinds()) == (before, told)


def test_holds_come_back_once(owner: Owner) -> None:
    hold = owner.reserve(10, ttl_ms=1000, grace_period_ms=0).json()["reservation_id"]
    owner.close()
    time.sleep(1.5)  # several sweeps after its lease has lapsed
    row = owner.tenant.redis.hgetall(owner.tenant.names.reservation(hold))
    assert row[b"state"] == b"RELEASED"
    assert owner.tenant.amounts()["remaining"] == 1000
    assert owner.tenant.amounts()["reserved"] == 0


def test_nothing_of_it_can_be_changed(owner: Owner) -> None:
    tenant, operator = owner.tenant, owner.operator
    hold = owner.reserve(10).json()["reservation_id"]
    owner.close()
    before = owner.state()
    body = {"tenant_id": tenant.name, "scope": f"{owner.scope}/agent:new", "unit": UNIT}
    body |= {"allocated": {"unit": UNIT, "amount": 1}}
    guarded = (409, "TENANT_CLOSED")
    assert error_of(operator.http.post("/v1/admin/budgets", json=body)) == guarded
    assert error_of(operator.fund(tenant, "CREDIT", 1)) == guarded
    assert error_of(operator.of_budget("PATCH", "", tenant, body={})) == guarded
    for path in ("/freeze", "/unfreeze"):
        assert error_of(operator.of_budget("POST", path, tenant)) == guarded
    released = owner.runtime.post(
        f"/v1/reservations/{hold}/release",
        json={"idempotency_key": new_key()},
        headers={"X-Admin-API-Key": ADMIN_KEY},
    )
    assert error_of(released) in (guarded, (409, "RESERVATION_FINALIZED"))
    assert owner.reserve(1).status_code == 401  # its key is revoked
    assert owner.state() == before
    path = f"/v1/admin/tenants/{tenant.name}"
    for status in ("ACTIVE", "SUSPENDED"):
        refused = operator.http.patch(path, json={"status": status})
        assert error_of(refused) == (400, "INVALID_REQUEST")
    assert operator.http.get(path).json()["status"] == "CLOSED"
    assert operator.of_budget("GET", "/lookup", tenant).json()["status"] == "CLOSED"


def test_a_second_close_says_nothing_that_it_did_not_do(owner: Owner) -> None:
    path = f"/v1/admin/tenants/{owner.tenant.name}"
    body = {"status": "CLOSED", "name": "Last words"}
    first = owner.operator.http.patch(path, json=body).json()
    again = owner.operator.http.patch(path, json={**body, "name": "More of them"})
    assert (again.status_code, again.json()) == (200, first)
    entries = [one for one in owner.operator.audit(owner.tenant.name) if one["status"] == 200]
    updates = [one for one in entries if one["operation"] == "updateTenant"]
    assert updates[0]["metadata"]["name"] == "Last words"
    assert "name" not in updates[1].get("metadata", {})


def test_closes_at_once_are_one(owner: Owner) -> None:
    for _ in range(5):
        owner.reserve(1)
    answers = at_once([owner.close] * 6)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["closed_at"] for answer in answers}) == 1
    assert len(owner.kinds()) == 5 + 3 + 1 + 2


def test_agents_at_work_never_get_through(owner: Owner) -> None:
    """Until the very moment of the close they reserve; after it nothing is held."""
    stop = threading.Event()
    answers: list[int] = []

    def work() -> None:
        while not stop.is_set():
            answers.append(owner.reserve(1).status_code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answers) < 20:
        time.sleep(0.01)
    assert owner.close().status_code == 200
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 401, 409}
    assert owner.tenant.amounts() == {
        "allocated": 1000,
        "remaining": 1000,
        "reserved": 0,
        "spent": 0,
        "debt": 0,
    }
    names, redis = owner.tenant.names, owner.tenant.redis
    live = [
        one
        for one in redis.zrange(names.index, 0, -1)
        if redis.hget(names.reservation(one.decode()), "state") == b"ACTIVE"
    ]
    assert live == []


def test_a_hold_that_is_in_no_index(owner: Owner) -> None:
    hold = owner.reserve(10).json()["reservation_id"]
    owner.tenant.redis.delete(owner.tenant.names.index)  # as another server would leave it
    owner.close()
    row = owner.tenant.redis.hgetall(owner.tenant.names.reservation(hold))
    assert row[b"state"] == b"RELEASED"
    assert owner.tenant.amounts()["remaining"] == 1000


def test_a_hold_of_nobody_goes_back_with_its_budget(owner: Owner) -> None:
    key = owner.tenant.names.budget(owner.scope, UNIT)
    owner.tenant.redis.hset(key, mapping={"reserved": 100, "remaining": 350})
    owner.close()
    stored = owner.tenant.stored_budget()
    assert (stored["reserved"], stored["remaining"]) == ("0", "450")
    (entry,) = [
        entry
        for entry in owner.operator.audit(owner.tenant.name)
        if entry["operation"] == "reservation.released_via_tenant_cascade"
    ]
    assert entry["metadata"]["released_amount"] == 100
    assert entry["resource_id"] == stored["ledger_id"]


def test_what_cannot_be_ended_is_named_and_holds_up_nothing_else(owner: Owner) -> None:
    tenant = owner.tenant
    tenant.redis.hset(tenant.names.budget(f"{owner.scope}/agent:a", UNIT), "spent", "5.5")
    answer = owner.close()
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    (failed,) = answer.json()["details"]["failed_resources"]
    assert failed == f"budget:{tenant.names.budget(f'{owner.scope}/agent:a', UNIT)}"
    assert tenant.stored_budget()["status"] == "CLOSED"
    assert owner.operator.http.get(f"/v1/admin/tenants/{tenant.name}").json()["status"] == "CLOSED"
    tenant.redis.hset(tenant.names.budget(f"{owner.scope}/agent:a", UNIT), "spent", "5")
    assert owner.close().status_code == 200
    assert tenant.stored_budget(f"{owner.scope}/agent:a")["status"] == "CLOSED"
    assert not tenant.redis.hexists(tenant.names.closings, tenant.name)


def test_one_that_is_not_there_leaves_nothing(operator: Operator) -> None:
    path = "/v1/admin/tenants/nobody-here"
    assert error_of(operator.http.patch(path, json={"status": "CLOSED"})) == (
        404,
        "TENANT_NOT_FOUND",
    )
    assert not operator.redis.hexists("cycles:closings", "nobody-here")


def test_a_suspended_tenant_can_be_closed(operator: Operator) -> None:
    tenant: Tenant = operator.tenant()
    path = f"/v1/admin/tenants/{tenant.name}"
    operator.http.patch(path, json={"status": "SUSPENDED"})
    assert operator.http.patch(path, json={"status": "CLOSED"}).json()["status"] == "CLOSED"
