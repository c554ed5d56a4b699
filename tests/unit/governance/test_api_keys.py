"""API keys that are made here, read by the code that serves requests."""

from __future__ import annotations

import asyncio

import bcrypt
import orjson
import pytest
from redis import Redis
from support.redis import RedisServer
from support.stores import Functions

from cycles_server.auth.apikeys import ApiKeys
from cycles_server.auth.lookup import look_up
from cycles_server.auth.principal import Principal
from cycles_server.auth.records import DEFAULT_PERMISSIONS, iso_instant, read_key
from cycles_server.cli.provision import provide_key, provide_tenant
from cycles_server.governance import api_keys
from cycles_server.governance.api_keys import has_api_key, in_force
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, ReferenceLayout
from cycles_server.store.store import Store

KEYS = Keys()


def authenticate(url: str, secret: str, keys: Keys = KEYS) -> Principal:
    async def work() -> Principal:
        store = Store(url, keys=keys, timeout_ms=2000)
        api_keys = ApiKeys(store)
        try:
            return await api_keys.authenticate(secret)
        finally:
            api_keys.close()
            await store.close()

    return asyncio.run(work())


def test_opens_the_door(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme")
    secret = do(provide_key, "acme")
    principal = authenticate(do.url, secret)
    assert (principal.tenant, principal.permissions) == ("acme", DEFAULT_PERMISSIONS)
    assert secret.startswith("cyc_live_")
    assert len(secret) == 41


def test_is_stored_as_the_reference_stores_it(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme")
    secret = do(provide_key, "acme", permissions=["balances:read"])
    key_id = client.get(f"apikey:lookup:{secret[:14]}")
    assert (len(key_id), key_id[:4]) == (20, "key_")
    assert client.smembers("apikeys:acme") == {key_id}
    record = orjson.loads(client.get(f"apikey:{key_id}"))
    assert record["key_prefix"] == secret[:14]
    assert record["permissions"] == ["balances:read"]
    assert record["key_hash"].startswith("$2a$12$")
    assert bcrypt.checkpw(secret.encode(), record["key_hash"].encode())
    assert secret not in str(record)
    assert {"tenant_id", "status", "created_at", "expires_at"} <= record.keys()


S, T = "cyc_live_" + "s" * 32, "cyc_live_" + "t" * 32


def test_one_that_begins_like_another_is_drawn_again(
    client: Redis, do: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(provide_tenant, "acme")
    drawn = iter((S, T))
    monkeypatch.setattr(api_keys, "_new_secret", lambda: next(drawn))
    client.set("apikey:lookup:cyc_live_sssss", "key_gone")  # leads nowhere, and stays another's
    secret = do(provide_key, "acme")
    assert secret == T
    assert client.get("apikey:lookup:cyc_live_sssss") == "key_gone"
    assert len(client.keys("apikey:key_*")) == 1
    assert do(in_force, "acme", secret)


def test_a_beginning_that_is_never_free(
    client: Redis, do: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(provide_tenant, "acme")
    drawn: list[str] = []
    monkeypatch.setattr(api_keys, "_new_secret", lambda: drawn.append(S) or S)
    client.set("apikey:lookup:cyc_live_sssss", "key_of_another")
    with pytest.raises(Refusal) as refused:
        do(provide_key, "acme")
    assert refused.value.code == "INTERNAL_ERROR"
    assert len(drawn) == 10
    assert client.get("apikey:lookup:cyc_live_sssss") == "key_of_another"
    assert client.keys("apikey:key_*") == client.keys("apikeys:*") == []


@pytest.mark.parametrize("layout", [ReferenceLayout, BucketLayout])
def test_two_at_once_that_begin_alike(
    empty_store: RedisServer,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    layout: type[ReferenceLayout] | type[BucketLayout],
) -> None:
    do = Functions(empty_store.url, Keys(layout()))
    do(provide_tenant, "acme")
    # Both are seen to be free before either is written: a hash stands in between.
    drawn = iter((S, S, T))
    monkeypatch.setattr(api_keys, "_new_secret", lambda: next(drawn))

    async def both(store: Store) -> list[str]:
        return await asyncio.gather(provide_key(store, "acme"), provide_key(store, "acme"))

    assert sorted(do(both)) == [S, T]
    assert do(in_force, "acme", S)
    assert do(in_force, "acme", T)
    assert len(client.keys("*apikey:key_*")) == 2
    assert client.scard(do.keys.tenant("acme").api_keys()) == 2


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED", None, "damaged"])
def test_not_for_a_tenant_that_is_not_active(
    client: Redis, do: Functions, status: str | None
) -> None:
    record = "{" if status == "damaged" else f'{{"tenant_id":"acme","status":"{status}"}}'
    if status is not None:
        client.set("tenant:acme", record)
    with pytest.raises(Refusal) as refused:
        do(provide_key, "acme")
    expected = {"CLOSED": "TENANT_CLOSED", "damaged": "INTERNAL_ERROR"}
    assert refused.value.code == expected.get(str(status), "INVALID_REQUEST")
    assert client.keys("*") == ([] if status is None else ["tenant:acme"])


def test_a_set_of_keys_that_is_none_leaves_nothing_half_done(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme")
    client.set("apikeys:acme", "damaged")
    before = sorted(client.keys("*"))
    with pytest.raises(StoreCorrupt):
        do(provide_key, "acme")
    assert sorted(client.keys("*")) == before
    client.delete("apikeys:acme")


def test_whether_one_is_in_force(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme")
    secret = do(provide_key, "acme")
    assert do(has_api_key, "acme")
    assert do(in_force, "acme", secret)
    assert not do(in_force, "other", secret)
    assert not do(in_force, "acme", secret + "x")
    assert not do(in_force, "acme", secret + "x" * 64)  # more than bcrypt takes
    name = f"apikey:{client.get(f'apikey:lookup:{secret[:14]}')}"
    record = orjson.loads(client.get(name))
    for change in ({"status": "REVOKED"}, {"expires_at": iso_instant(1_000)}):
        client.set(name, orjson.dumps({**record, **change}))
        assert not do(has_api_key, "acme")
        assert not do(in_force, "acme", secret)
    client.delete(name)
    assert not do(in_force, "acme", secret)


def test_no_permissions_at_all_is_not_the_default(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme")
    secret = do(provide_key, "acme", permissions=[])
    key = read_key(do(look_up, secret).record)
    assert key is not None
    assert key.permissions == frozenset()


def test_in_the_bucket_layout(client: Redis, empty_store: RedisServer) -> None:
    do = Functions(empty_store.url, Keys(BucketLayout()))
    do(provide_tenant, "acme")
    secret = do(provide_key, "acme")
    assert authenticate(do.url, secret, do.keys).tenant == "acme"
    assert do(in_force, "acme", secret)
