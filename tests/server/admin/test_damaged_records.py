"""Records and sets that are not what they should be: passed over, or refused before anything is
done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.operator import Operator
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key

DAMAGED = (500, "INTERNAL_ERROR")
TENANTS, POLICIES = "/v1/admin/tenants", "/v1/admin/policies"
FAR_TOO_DEEP = b'{"name":%s1%s}' % (b"[" * 5000, b"]" * 5000)
UNANSWERABLE = {
    "nested far too deeply": b'%%s,"caps":{"a":%s1%s}}' % (b"[" * 5000, b"]" * 5000),
    "nested too deeply": b'%%s,"caps":%s1%s}' % (b'{"a":' * 400, b"}" * 400),
    "nested too deeply where nobody looks": b'%%s,"more":%s1%s}' % (b'{"a":' * 400, b"}" * 400),
    "half of a surrogate pair": b'%s,"description":"\\ud800"}',
    "no JSON": b"%s",
    "no text": b'%s,"description":"\xff\xfe"}',
}
"""What may stand behind a record's other members."""


def policy(operator: Operator, tenant: Tenant) -> str:
    body = {"tenant_id": tenant.name, "name": new_key(), "scope_pattern": "agent:*"}
    made = operator.http.post(POLICIES, json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["policy_id"])


def test_a_tenant_without_a_time_of_creation(operator: Operator) -> None:
    tenant = operator.tenant()
    record = json.loads(operator.redis.get(tenant.names.record))
    del record["created_at"]
    operator.redis.set(tenant.names.record, json.dumps(record))
    for answer in (
        operator.http.get(f"{TENANTS}/{tenant.name}"),
        operator.http.patch(f"{TENANTS}/{tenant.name}", json={"name": "other"}),
        operator.http.patch(f"{TENANTS}/{tenant.name}", json={"status": "CLOSED"}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json()["created_at"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "wrong", [{"status": "BOGUS"}, {"status": None}, {"name": None}, {"tenant_id": 5}]
)
@pytest.mark.parametrize("body", [{"max_reservation_extensions": 1}, {"status": "CLOSED"}])
def test_a_tenant_that_cannot_be_answered_is_not_changed(
    operator: Operator, wrong: dict[str, Any], body: dict[str, Any]
) -> None:
    tenant = operator.tenant()
    record = json.loads(operator.redis.get(tenant.names.record))
    operator.redis.set(tenant.names.record, json.dumps({**record, **wrong}))
    before = operator.redis.get(tenant.names.record)
    answer = operator.http.patch(f"{TENANTS}/{tenant.name}", json=body)
    assert error_of(answer) == DAMAGED
    assert operator.redis.get(tenant.names.record) == before
    assert not operator.redis.hexists(tenant.names.closings, tenant.name)
    tenant.record()


def test_a_policy_that_cannot_be_answered_is_not_changed(operator: Operator) -> None:
    tenant = operator.tenant()
    policy_id = policy(operator, tenant)
    key = tenant.names.policy(policy_id)
    record = json.loads(operator.redis.get(key))
    del record["created_at"]
    operator.redis.set(key, json.dumps(record))
    before = operator.redis.get(key)
    answer = operator.http.patch(f"{POLICIES}/{policy_id}", json={"priority": 3})
    assert error_of(answer) == DAMAGED
    assert operator.redis.get(key) == before


@pytest.mark.parametrize("record", UNANSWERABLE.values(), ids=UNANSWERABLE)
def test_a_record_that_cannot_be_answered_leaves_the_list_to_the_others(
    operator: Operator, admin: CyclesServer, record: bytes
) -> None:
    tenant = operator.tenant()
    good, bad = policy(operator, tenant), policy(operator, tenant)
    key = tenant.names.policy(bad)
    operator.redis.set(key, record % operator.redis.get(key)[:-1])
    query = {"tenant_id": tenant.name}
    traces = admin.log.read_text().count("Traceback")
    listed = operator.http.get(POLICIES, params=query)
    assert [row["policy_id"] for row in listed.json()["policies"]] == [good]
    changed = operator.http.patch(f"{POLICIES}/{bad}", json={"priority": 3})
    assert error_of(changed) == DAMAGED
    assert admin.log.read_text().count("Traceback") == traces


def test_a_close_ends_what_can_be_ended(operator: Operator) -> None:
    """Whatever set or record of the tenant is damaged."""
    tenant = operator.tenant()
    ledger = operator.budget(tenant)
    key_id = tenant.key_id
    operator.redis.set(tenant.names.index, "junk")
    operator.redis.set(tenant.names.webhooks(), "junk")
    operator.redis.sadd(tenant.names.api_keys(), "key_deep")
    operator.redis.set(tenant.names.api_key("key_deep"), FAR_TOO_DEEP)
    answer = operator.http.patch(f"{TENANTS}/{tenant.name}", json={"status": "CLOSED"})
    assert error_of(answer) == DAMAGED
    failed = answer.json()["details"]["failed_resources"]
    assert {one.partition(":")[0] for one in failed} == {"reservation", "webhook", "api_key"}
    assert tenant.stored_budget(ledger["scope"])["status"] == "CLOSED"
    assert json.loads(operator.redis.get(tenant.names.api_key(key_id)))["status"] == "REVOKED"
    # Once it is repaired, the same request goes through.
    operator.redis.delete(tenant.names.index, tenant.names.webhooks())
    operator.redis.delete(tenant.names.api_key("key_deep"))
    again = operator.http.patch(f"{TENANTS}/{tenant.name}", json={"status": "CLOSED"})
    assert again.status_code == 200, again.text


def test_a_damaged_twin_keeps_nothing_from_being_made(operator: Operator) -> None:
    tenant = operator.tenant()
    twin = tenant.names.listed(tenant.names.budgets).twin
    operator.redis.set(twin, "junk")
    ledger = operator.budget(tenant)
    assert operator.redis.smembers(tenant.names.budgets) == {
        tenant.names.budget(ledger["scope"], UNIT).encode()
    }
    operator.redis.delete(twin)


def test_a_bulk_action_that_could_not_be_told_of_does_nothing(operator: Operator) -> None:
    tenant, parent = operator.tenant(), new_key()
    child = operator.tenant(parent_tenant_id=parent)
    operator.budget(tenant)
    index = tenant.names.audit_tenant_index
    operator.redis.rename(index, f"{index}-kept")
    operator.redis.set(index, "junk")
    body = {
        "action": "CREDIT",
        "amount": {"unit": UNIT, "amount": 1},
        "filter": {"tenant_id": tenant.name},
        "idempotency_key": new_key(),
    }
    before = set(operator.redis.keys("*bulkplan*"))
    assert error_of(operator.http.post("/v1/admin/budgets/bulk-action", json=body)) == DAMAGED
    assert tenant.amounts()["allocated"] == 1_000
    operator.redis.rename(f"{index}-kept", index)

    index = tenant.keys.tenant("__admin__").audit_tenant_index
    kept = operator.redis.exists(index) and operator.redis.rename(index, f"{index}-kept")
    operator.redis.set(index, "junk")
    suspend = {
        "action": "SUSPEND",
        "filter": {"parent_tenant_id": parent},
        "idempotency_key": new_key(),
    }
    assert error_of(operator.http.post(f"{TENANTS}/bulk-action", json=suspend)) == DAMAGED
    assert json.loads(operator.redis.get(child.names.record))["status"] == "ACTIVE"
    assert set(operator.redis.keys("*bulkplan*")) == before
    operator.redis.delete(index)
    if kept:
        operator.redis.rename(f"{index}-kept", index)
