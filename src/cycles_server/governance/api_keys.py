"""API keys: a record for each, found by the beginning of its secret."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Sequence
from typing import Any

import bcrypt
import orjson

from cycles_server.auth.lookup import look_up
from cycles_server.auth.records import DEFAULT_PERMISSIONS, instant_ms, iso_instant, read_key
from cycles_server.governance.records import Record
from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import API_KEY_PREFIX_LENGTH
from cycles_server.store.store import Store

Body = dict[str, Any]

ACTIVE, REVOKED, EXPIRED = "ACTIVE", "REVOKED", "EXPIRED"

SECRET_PREFIX = "cyc_live_"  # noqa: S105
VALID_DAYS = 90
"""How long a key is valid."""

PERMISSIONS = frozenset(
    (
        *(f"reservations:{deed}" for deed in ("create", "commit", "release", "extend", "list")),
        "balances:read",
        "events:read",
        *(f"{kind}:{deed}" for kind in ("budgets", "policies") for deed in ("read", "write")),
        *(f"webhooks:{deed}" for deed in ("read", "write")),
        *(f"admin:{deed}" for deed in ("read", "write")),
        *(
            f"admin:{kind}:{deed}"
            for kind in ("tenants", "budgets", "policies", "apikeys", "webhooks")
            for deed in ("read", "write")
        ),
        "admin:events:read",
        "admin:audit:read",
    )
)
"""The contract's Permission."""
NEVER = "9999-12-31T23:59:59.999Z"
"""The ``expires_at`` of an answer about a key without one: the contract requires it."""

_REQUIRED = ("key_id", "tenant_id", "key_prefix", "created_at")
_BOUNDED = {"name": 256, "description": 1024, "revoked_reason": 512}
"""Texts, and how many characters of them the contract allows."""
_OPTIONAL = ("last_used_at", "revoked_at")
_SECRET_RANDOM = 32
_BCRYPT_COST = 12
_ALPHABET = string.ascii_letters + string.digits


def key_body(record: Record, now_ms: int) -> Body:
    """The contract's ApiKey: never the hash of its secret.

    A key that is stored ACTIVE and past its expiry is EXPIRED. Left out is what the contract
    cannot say: permissions that are not its own (``decide``), and texts beyond their length.

    Raises:
        StoreCorrupt: the record says not whose it is, what state it is in, or when it ends.
    """
    for name in _REQUIRED:
        if not isinstance(record.get(name), str):
            raise StoreCorrupt(f"{name} of an API key is {record.get(name)!r}")
    body: Body = {
        **{name: record[name] for name in _REQUIRED},
        "expires_at": record.get("expires_at") or NEVER,
        "status": key_status(record, now_ms),
        "permissions": [item for item in permissions_of(record) if item in PERMISSIONS],
    }
    if record.get("scope_filter") is not None:
        body["scope_filter"] = _texts(record["scope_filter"])
    for name, most in _BOUNDED.items():
        if isinstance(record.get(name), str):
            body[name] = record[name][:most]
    for name in _OPTIONAL:
        if isinstance(record.get(name), str):
            body[name] = record[name]
    if isinstance(record.get("metadata"), dict):
        body["metadata"] = record["metadata"]
    return body


def key_status(record: Record, now_ms: int) -> str:
    """ACTIVE, REVOKED or EXPIRED at a time (epoch ms, by the store's clock).

    Raises:
        StoreCorrupt: the record does not say.
    """
    stored, expires = record.get("status"), record.get("expires_at")
    if stored not in (ACTIVE, REVOKED, EXPIRED):
        raise StoreCorrupt(f"status of an API key is {stored!r}")
    if stored == REVOKED or record.get("revoked_at") is not None:
        return REVOKED
    try:
        lapsed = expires is not None and instant_ms(expires) <= now_ms
    except (TypeError, ValueError):
        raise StoreCorrupt(f"expires_at of an API key is {expires!r}") from None
    return EXPIRED if lapsed else str(stored)


def permissions_of(record: Record) -> list[str]:
    """What a key's record allows, in its order; the default where it says nothing."""
    permissions = record.get("permissions")
    return sorted(DEFAULT_PERMISSIONS) if permissions is None else _texts(permissions)


def _texts(value: Any) -> list[str]:
    # Some servers have stored an empty list as {}.
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


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
