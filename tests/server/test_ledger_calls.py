"""The ledger as jobs and the command line call it: without a request, on another's account."""

from __future__ import annotations

import pytest
from conftest import Running
from support.stores import on_store
from support.tenants import Tenant, new_key

from cycles_server.ledger.accounts import Accounts
from cycles_server.ledger.call import Call
from cycles_server.ledger.ledger import Ledger, Outcome
from cycles_server.refusal import Refusal
from cycles_server.store.store import Store


def released(running: Running, tenant: Tenant, status: str) -> Outcome:
    """A release on the tenant's account, whose record changes after it was read."""
    reservation = tenant.reserved(10)

    async def work(store: Store) -> Outcome:
        accounts = Accounts(store)
        account = await accounts.for_operator(tenant.name)
        tenant.record(status=status)
        body = {"idempotency_key": new_key()}
        return await Ledger(store, accounts).release(Call(account), body, reservation)

    return on_store(running.store.url, work)


def test_a_changed_tenant_is_read_again(running: Running, tenant: Tenant) -> None:
    tenant.record(status="ACTIVE", name="before")
    assert released(running, tenant, "SUSPENDED").body["status"] == "RELEASED"
    assert tenant.amounts()["reserved"] == 0


def test_and_what_it_says_now_counts(running: Running, tenant: Tenant) -> None:
    tenant.record(status="ACTIVE")
    with pytest.raises(Refusal) as refused:
        released(running, tenant, "CLOSED")
    assert refused.value.code == "TENANT_CLOSED"
    assert tenant.amounts()["reserved"] == 10
