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
from cycles_server.cli.provision import provide_tenant
from cycles_server.governance import api_keys
from cycles_server.governance.api_keys import create_api_key, has_api_key, in_force
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout
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
    secret = do(create_api_key, "acme")
    principal = authenticate(do.url, secret)
    assert (principal.tenant, principal.permissions) == ("acme", DEFAULT_PERMISSIONS)
    assert secret.startswith("cyc_live_")
    assert len(secret) == 41


def test_is_stored_as_the_reference_stores_it(client: Redis, do: Functions) -> None:
    secret = do(create_api_key, "acme", permissions=["balances:read"])
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


def test_one_that_begins_like_another_is_drawn_again(
    client: Redis, do: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(("cyc_live_" + "s" * 32, "cyc_live_" + "t" * 32))
    monkeypatch.setattr(api_keys, "_new_secret", lambda: next(drawn))
    client.set("apikey:lookup:cyc_live_sssss", "key_gone")  # leads nowhere, and stays another's
    secret = do(create_api_key, "acme")
    assert secret == "cyc_live_" + "t" * 32
    assert client.get("apikey:lookup:cyc_live_sssss") == "key_gone"
    assert len(client.keys("apikey:key_*")) == 1
    assert do(in_force, "acme", secret)


def test_whether_one_is_in_force(client: Redis, do: Functions) -> None:
    secret = do(create_api_key, "acme")
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
    secret = do(create_api_key, "acme", permissions=[])
    key = read_key(do(look_up, secret).record)
    assert key is not None
    assert key.permissions == frozenset()


def test_in_the_bucket_layout(client: Redis, empty_store: RedisServer) -> None:
    do = Functions(empty_store.url, Keys(BucketLayout()))
    do(provide_tenant, "acme")
    secret = do(create_api_key, "acme")
    assert authenticate(do.url, secret, do.keys).tenant == "acme"
    assert do(in_force, "acme", secret)
