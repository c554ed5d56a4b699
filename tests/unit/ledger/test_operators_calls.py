"""Calls that no caller's key stands behind: nobody else repeats what turns out to be stale."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.redis import RedisServer
from support.stores import on_store
from support.tenants import Tenant

from cycles_server.auth.confirmation import StaleCredential
from cycles_server.auth.principal import Principal
from cycles_server.ledger.accounts import Account, Accounts
from cycles_server.ledger.call import Call
from cycles_server.ledger.ledger import Ledger, Outcome
from cycles_server.refusal import Refusal
from cycles_server.scopes import derive_scopes
from cycles_server.store.errors import StoreUnavailable
from cycles_server.store.store import Store

Work = Callable[[Ledger, Account], Awaitable[Outcome]]


@pytest.fixture
def tenant(store: RedisServer) -> Tenant:
    tenant = Tenant(store.client, "http://unused")
    tenant.record()
    tenant.budget(allocated=1000)
    return tenant


def on_account(
    tenant: Tenant, url: str, change: Callable[[], Any], work: Work, accounts: type = Accounts
) -> Outcome:
    """Do some work on an account after what it was taken from has changed."""

    async def run(store: Store) -> Outcome:
        found = accounts(store)
        account = await found.for_operator(tenant.name)
        change()
        return await work(Ledger(store, found), account)

    return on_store(url, run)


def reserving(tenant: Tenant) -> Work:
    body = tenant.reserve_body(10)
    scopes = derive_scopes(body["subject"])
    one = "11111111-2222-4333-8444-" + tenant.name[2:].rjust(12, "0")
    return lambda ledger, account: ledger.reserve(Call(account), body, scopes, one)


def test_a_changed_record_is_read_again(store: RedisServer, tenant: Tenant) -> None:
    outcome = on_account(
        tenant,
        store.url,
        lambda: tenant.record(max_reservation_ttl_ms=5000, max_reservation_extensions=3),
        reserving(tenant),
    )
    assert outcome.body["decision"] == "ALLOW"
    # What the record says now counts, not what it said before.
    assert outcome.body["remaining_ttl_ms"] == 5000
    record = tenant.names.reservation(outcome.body["reservation_id"])
    assert store.client.hget(record, "max_extensions") == b"3"
    assert tenant.amounts()["reserved"] == 10


def test_a_tenant_that_is_closed_meanwhile(store: RedisServer, tenant: Tenant) -> None:
    with pytest.raises(Refusal) as refused:
        on_account(tenant, store.url, lambda: tenant.record(status="CLOSED"), reserving(tenant))
    assert refused.value.code == "TENANT_CLOSED"
    assert tenant.amounts()["reserved"] == 0


def test_a_record_that_never_rests(store: RedisServer, tenant: Tenant) -> None:
    reads = []

    class Restless(Accounts):
        async def for_operator(self, tenant_id: str) -> Account:
            account = await super().for_operator(tenant_id)
            reads.append(account)
            tenant.record(name=f"as of {len(reads)}")
            return account

    with pytest.raises(StoreUnavailable):
        on_account(tenant, store.url, lambda: None, reserving(tenant), Restless)
    assert 2 <= len(reads) <= 10
    assert tenant.amounts()["reserved"] == 0


def test_a_callers_key_is_not_read_again_here(store: RedisServer, tenant: Tenant) -> None:
    principal = Principal(
        tenant=tenant.name, key_id=tenant.key_id, permissions=frozenset(), key_record=b"of before"
    )

    async def run(opened: Store) -> None:
        accounts = Accounts(opened)
        await reserving(tenant)(Ledger(opened, accounts), accounts.of_caller(principal))

    with pytest.raises(StaleCredential):
        on_store(store.url, run)
    assert tenant.amounts()["reserved"] == 0
