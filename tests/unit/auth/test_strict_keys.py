"""When a key ends, to the millisecond, on either plane."""

from __future__ import annotations

import asyncio

import pytest
from support.redis import RedisServer
from support.tenants import Tenant

from cycles_server.auth import apikeys
from cycles_server.auth.apikeys import ApiKeys
from cycles_server.auth.principal import Principal
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import Keys
from cycles_server.store.store import Store

ENDS = 1_900_000_000_000


def authenticate(store: RedisServer, secret: str, *, strict: bool) -> Principal:
    async def work() -> Principal:
        opened = Store(store.url, keys=Keys(), timeout_ms=2000)
        keys = ApiKeys(opened, strict=strict)
        try:
            return await keys.authenticate(secret)
        finally:
            keys.close()
            await opened.close()

    return asyncio.run(work())


@pytest.mark.parametrize(("strict", "last"), [(False, ENDS), (True, ENDS - 1)])
def test_the_last_millisecond(
    store: RedisServer, monkeypatch: pytest.MonkeyPatch, strict: bool, last: int
) -> None:
    tenant = Tenant(store.client, "http://nowhere")
    secret = tenant.new_key(expires_at="2030-03-17T17:46:40Z")
    monkeypatch.setattr(apikeys, "epoch_ms", lambda _: last)
    principal = authenticate(store, secret, strict=strict)
    assert principal.expires_at == str(last)  # the script's own check goes by it
    monkeypatch.setattr(apikeys, "epoch_ms", lambda _: last + 1)
    with pytest.raises(Refusal):
        authenticate(store, secret, strict=strict)


@pytest.mark.parametrize("damaged", ["key", "tenant"])
def test_a_record_that_cannot_be_read(store: RedisServer, damaged: str) -> None:
    tenant = Tenant(store.client, "http://nowhere")
    name = tenant.names.record if damaged == "tenant" else tenant.names.api_key(tenant.key_id)
    store.client.set(name, "{")
    with pytest.raises(StoreCorrupt):
        authenticate(store, tenant.secret, strict=True)


def test_an_empty_list_that_was_stored_as_an_object(store: RedisServer) -> None:
    tenant = Tenant(store.client, "http://nowhere")
    secret = tenant.new_key(permissions={}, scope_filter={})
    principal = authenticate(store, secret, strict=False)
    assert principal.permissions == frozenset()
    assert principal.scope_filter == ()
