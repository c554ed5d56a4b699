"""A key of the wrong type ends a script before any amount is written."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError
from support.redis import RedisServer
from support.tenants import Tenant

from cycles_server.governance.scripts import create_budget
from cycles_server.governance.scripts import head as mutation_head
from cycles_server.ledger.scripts import expire, reserve
from cycles_server.ledger.scripts.head import HeadArguments, HeadKeys
from cycles_server.store.scripts import load_script


@pytest.fixture
def tenant(store: RedisServer) -> Tenant:
    tenant = Tenant(store.client, "http://unused")
    tenant.budget(allocated=1000, remaining=990, reserved=10)
    return tenant


def ask(store: RedisServer, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    return store.client.eval(load_script(script).source, len(keys), *keys, *arguments)


def lapsed(store: RedisServer, tenant: Tenant, **changes: str) -> str:
    """A reservation of 10 whose time was over long ago."""
    reservation_id = str(uuid.uuid4())
    record = {
        "state": "ACTIVE",
        "tenant": tenant.name,
        "expires_at": "1",
        "estimate_amount": "10",
        "estimate_unit": "TOKENS",
        "affected_scopes": f'["tenant:{tenant.name}"]',
        **changes,
    }
    store.client.hset(tenant.names.reservation(reservation_id), mapping=record)
    store.client.pexpire(tenant.names.reservation(reservation_id), 60_000)
    return reservation_id


@pytest.mark.parametrize("damaged", ["expiries", "quarantine"])
def test_expire(store: RedisServer, tenant: Tenant, damaged: str) -> None:
    ids = [lapsed(store, tenant)]
    if damaged == "quarantine":  # it is touched only for what cannot be settled
        ids.append(lapsed(store, tenant, estimate_amount="x"))
    names = {"expiries": f"x-{tenant.name}:e", "quarantine": f"x-{tenant.name}:q"}
    for which, name in names.items():
        if which == damaged:
            store.client.set(name, "not a sorted set", px=60_000)
        else:
            store.client.zadd(name, dict.fromkeys(ids, 1))
            store.client.pexpire(name, 60_000)
    before = tenant.stored_budget()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ask(
            store,
            expire.NAME,
            [*expire.Keys(**names), *map(tenant.names.reservation, ids)],
            [*expire.Arguments(tenant=tenant.name, budget_prefix=tenant.names.budget_prefix), *ids],
        )
    assert tenant.stored_budget() == before
    states = [store.client.hget(tenant.names.reservation(one), "state") for one in ids]
    assert set(states) == {b"ACTIVE"}
    if damaged == "quarantine":
        assert store.client.zcard(names["expiries"]) == 2  # both still wait to be settled


@pytest.mark.parametrize("damaged", ["expiries", "creations", "policies"])
def test_reserve(store: RedisServer, tenant: Tenant, damaged: str) -> None:
    reservation_id = str(uuid.uuid4())
    keys = reserve.Keys(
        idempotency_record=f"x-{tenant.name}:i",
        reservation=tenant.names.reservation(reservation_id),
        expiries=f"x-{tenant.name}:e",
        creations=f"x-{tenant.name}:c",
        policies=f"x-{tenant.name}:p",
    )
    store.client.set(getattr(keys, damaged), "not a sorted set", px=60_000)
    scope = f"tenant:{tenant.name}"
    arguments = reserve.Arguments(
        reservation_prefix=tenant.names.reservation_prefix,
        request_hash=b"h",
        reservation_id=reservation_id,
        estimate="10",
        unit="TOKENS",
        lease_ms=1000,
        grace_ms=0,
        asked_policy="",
        default_policy="",
        max_extensions=10,
        subject=b"{}",
        action=b"{}",
        metadata=b"",
        scopes_json=b"[]",
        idempotency_key="k",
        policies_known=0,
        policy_count=0,
        policy_until="",
        policy_caps=b"",
        policy_limit="",
    )
    head_keys = HeadKeys(key_record=tenant.names.record, tenant_record=tenant.names.record)
    head = HeadArguments(
        verified_key=b"",
        verified_tenant=b"",
        key_valid_until="",
        tenant=tenant.name,
        tenant_guard="OPEN",
    )
    before = tenant.stored_budget()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ask(
            store,
            reserve.NAME,
            [*head_keys, *keys, tenant.names.budget(scope, "TOKENS")],
            [*head, *arguments, scope],
        )
    assert tenant.stored_budget() == before
    left = [name for name in keys if store.client.exists(name)]
    assert left == [getattr(keys, damaged)]


def test_create_budget(store: RedisServer, tenant: Tenant) -> None:
    keys = create_budget.Keys(
        budget_record=tenant.names.budget(f"agent:{tenant.name}", "TOKENS"),
        tenant_budgets=f"x-{tenant.name}:b",
        tenant_budgets_twin=f"x-{tenant.name}:t",
    )
    store.client.set(keys.tenant_budgets, "not a set", px=60_000)
    arguments = create_budget.Arguments(
        ledger_id="l",
        scope=f"agent:{tenant.name}",
        unit="TOKENS",
        allocated="5",
        overdraft_limit="0",
        overage_policy="",
        rollover_policy="",
        period_start="",
        period_end="",
        metadata=b"",
    )
    names = tenant.names
    head_keys = mutation_head.HeadKeys(
        key_record=names.record,
        tenant_record=names.record,
        audit_record=names.audit_entry("log_x"),
        audit_of_tenant=names.audit_tenant_index,
        audit_of_all=names.audit_index,
    )
    head = mutation_head.HeadArguments(
        verified_key=b"",
        verified_tenant=b"",
        key_valid_until="",
        tenant=tenant.name,
        owner_rule="",
        audit_id="log_x",
        audit_members=b'"operation":"createBudget"',
        audit_facts=b"",
        audit_kept_ms=1000,
    )
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ask(store, create_budget.NAME, [*head_keys, *keys], [*head, *arguments])
    assert not store.client.exists(head_keys.audit_record)
    assert not store.client.exists(keys.budget_record)
