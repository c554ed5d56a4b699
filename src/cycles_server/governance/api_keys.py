"""API keys: a record for each, found by the beginning of its secret."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Sequence

import bcrypt
import orjson

from cycles_server.auth.lookup import look_up
from cycles_server.auth.records import DEFAULT_PERMISSIONS, iso_instant, read_key
from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.keys import API_KEY_PREFIX_LENGTH
from cycles_server.store.store import Store

SECRET_PREFIX = "cyc_live_"  # noqa: S105
VALID_DAYS = 90
"""How long a key is valid."""

_SECRET_RANDOM = 32
_BCRYPT_COST = 12
_ALPHABET = string.ascii_letters + string.digits


async def create_api_key(
    store: Store, tenant_id: str, permissions: Sequence[str] | None = None
) -> str:
    """Make an API key and return its secret, which is stored nowhere.

    Args:
        permissions: by default the ten of the governance contract; none of them: ``[]``.

    Raises:
        StoreError: the store failed; a key that nobody knows may be left behind.
    """
    names = store.keys.tenant(tenant_id)
    key_id = f"key_{secrets.token_hex(8)}"
    now = await now_ms(store)
    while True:
        secret = _new_secret()
        record = {
            "key_id": key_id,
            "tenant_id": tenant_id,
            "key_prefix": secret[:API_KEY_PREFIX_LENGTH],
            "key_hash": await asyncio.to_thread(_hashed, secret),
            "name": "provisioned",
            "permissions": sorted(DEFAULT_PERMISSIONS if permissions is None else permissions),
            "scope_filter": [],
            "status": "ACTIVE",
            "created_at": iso_instant(now),
            "expires_at": iso_instant(now + VALID_DAYS * DAY_MS),
        }
        await store.write("SET", names.api_key(key_id), orjson.dumps(record))
        # The lookup entry comes last: it never leads to a record that is not there.
        lookup = store.keys.layout.lookup_value(tenant_id, key_id)
        if await store.write("SET", store.keys.api_key_lookup(secret), lookup, "NX"):
            await store.write("SADD", names.api_keys(), key_id)
            return secret
        # Another key begins in the same way.
        await store.write("DEL", names.api_key(key_id))


async def has_api_key(store: Store, tenant_id: str) -> bool:
    """Whether the tenant has a key in force.

    Raises:
        StoreError: the store failed.
    """
    names = store.keys.tenant(tenant_id)
    now = await now_ms(store)
    for key_id in await store.read("SMEMBERS", names.api_keys()):
        record = await store.read("GET", names.api_key(key_id.decode(errors="replace")))
        key = read_key(record or b"")
        if key is not None and key.in_force(now):
            return True
    return False


async def in_force(store: Store, tenant_id: str, secret: str) -> bool:
    """Whether a secret is a key of the tenant that may be used now.

    Raises:
        StoreError: the store failed.
    """
    found = await look_up(store, secret)
    key = read_key(found.record) if found else None
    if key is None or key.tenant != tenant_id or not key.in_force(await now_ms(store)):
        return False
    return await asyncio.to_thread(key.matches, secret.encode())


def _hashed(secret: str) -> str:
    salt = bcrypt.gensalt(_BCRYPT_COST, prefix=b"2a")  # the form that every bcrypt reads
    return bcrypt.hashpw(secret.encode(), salt).decode()


def _new_secret() -> str:
    return SECRET_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_RANDOM))
