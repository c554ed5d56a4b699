"""API keys: a record for each, found by the beginning of its secret."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import bcrypt

from cycles_server.auth.lookup import look_up
from cycles_server.auth.records import (
    DEFAULT_PERMISSIONS,
    NEVER,
    instant_ms,
    iso_instant,
    read_key,
    scope_filter_in,
    texts_in,
)
from cycles_server.governance.call import (
    ACTIVE_OWNER,
    OPEN_OWNER,
    Call,
    Change,
    closed_first,
    mutate,
)
from cycles_server.governance.records import Record, change_record, read_record
from cycles_server.governance.scripts import create_api_key as create
from cycles_server.jsontext import write_json
from cycles_server.paging.windows import read_moment
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.clock import DAY_MS, now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import API_KEY_PREFIX_LENGTH
from cycles_server.store.layout import new_key_id
from cycles_server.store.store import Store

Body = dict[str, Any]

ACTIVE, REVOKED, EXPIRED = "ACTIVE", "REVOKED", "EXPIRED"

SECRET_PREFIX = "cyc_live_"  # noqa: S105
VALID_DAYS = 90
"""How long a key is good that is asked for without an end."""

_READ_AND_WRITTEN = ("budgets", "policies", "webhooks")
_PERMISSIONS = {
    ("reservations",): ("create", "commit", "release", "extend", "list"),
    ("balances", "events", "admin:events", "admin:audit"): ("read",),
    (
        *("admin", "admin:tenants", "admin:apikeys"),
        *_READ_AND_WRITTEN,
        *(f"admin:{kind}" for kind in _READ_AND_WRITTEN),
    ): ("read", "write"),
}
PERMISSIONS = frozenset(
    f"{kind}:{deed}" for kinds, deeds in _PERMISSIONS.items() for kind in kinds for deed in deeds
)
"""The contract's Permission."""

_REQUIRED = ("key_id", "tenant_id", "key_prefix", "created_at")
_BOUNDED = {"name": 256, "description": 1024, "revoked_reason": 512}
"""Texts, and how many characters of them the contract allows."""
_OPTIONAL = ("last_used_at", "revoked_at")
_TOLD_OF_NEW = (*_REQUIRED, "permissions", "expires_at")
_DRAWS = 10
"""How many secrets are drawn for one key before all their beginnings were another's."""
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
    status = key_status(record, now_ms)
    body: Body = {
        **{name: record[name] for name in _REQUIRED},
        "expires_at": _shown_expiry(record.get("expires_at")),
        "status": status,
        "permissions": [item for item in permissions_of(record) if item in PERMISSIONS],
    }
    if record.get("scope_filter") is not None:
        body["scope_filter"] = list(scope_filter_in(record["scope_filter"]))
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
    if _is_revoked(record):
        return REVOKED
    try:
        lapsed = expires is not None and instant_ms(expires) <= now_ms
    except (TypeError, ValueError):
        raise StoreCorrupt(f"expires_at of an API key is {expires!r}") from None
    return EXPIRED if lapsed else str(stored)


def _is_revoked(record: Record) -> bool:
    return record.get("status") == REVOKED or record.get("revoked_at") is not None


def _shown_expiry(stored: Any) -> str:
    """As it is stored, if it is an RFC 3339 date-time. The contract requires one of a key without
    an end, too."""
    try:
        ms = instant_ms(stored)
    except (TypeError, ValueError):
        return NEVER
    if ms >= instant_ms(NEVER):
        return NEVER
    try:
        read_moment(stored)
    except ValueError:
        return iso_instant(ms)
    return str(stored)


def permissions_of(record: Record) -> list[str]:
    """What a key's record allows, in its order; the default where it says nothing."""
    permissions = record.get("permissions")
    return sorted(DEFAULT_PERMISSIONS) if permissions is None else texts_in(permissions)


async def create_api_key(
    store: Store, call: Call, body: Body, *, threads: Executor | None = None
) -> Body:
    """Make an API key.

    Args:
        body: ApiKeyCreateRequest. Without ``permissions`` the key gets the ten of the contract,
            with an empty list none; without ``expires_at`` it is good for VALID_DAYS.
        threads: where its secret is hashed; by default the loop's own.

    Returns:
        ApiKeyCreateResponse, with the secret, which is stored nowhere.

    Raises:
        Refusal: 400 for a member that is not allowed, and for a tenant that is not ACTIVE;
            TENANT_CLOSED; INTERNAL_ERROR where no beginning of a secret is free.
        StoreError: the store failed; a key that nobody knows may be left behind.
    """
    tenant_id = body["tenant_id"]
    if not tenant_id.strip():
        raise invalid("tenant_id", "must not be blank")
    async with closed_first(store, tenant_id):
        _check_members(body)
        now = await now_ms(store)
        expires = _expiry(body.get("expires_at"), now)
    settled = {
        "name": body["name"],
        "description": body.get("description"),
        "permissions": permissions_of(body),
        "scope_filter": body.get("scope_filter"),
        "status": ACTIVE,
        "created_at": iso_instant(now),
        "expires_at": expires,
        "metadata": body.get("metadata"),
    }
    for _ in range(_DRAWS):
        secret = _new_secret()
        if await store.read("EXISTS", store.keys.api_key_lookup(secret)):
            continue  # before it is hashed, which takes a quarter of a second
        key_hash = await asyncio.get_running_loop().run_in_executor(threads, _hashed, secret)
        record = {
            "key_id": new_key_id(tenant_id),
            "tenant_id": tenant_id,
            "key_prefix": secret[:API_KEY_PREFIX_LENGTH],
            "key_hash": key_hash,
            **{name: value for name, value in settled.items() if value is not None},
        }
        if await _write_key(store, call, secret, record, body.get("permissions")):
            return {"key_secret": secret, **{name: record[name] for name in _TOLD_OF_NEW}}
    raise Refusal("INTERNAL_ERROR", "No beginning of a secret is free; try again")


async def _write_key(
    store: Store, call: Call, secret: str, record: Record, asked: Sequence[str] | None
) -> bool:
    """Write a new key; False if another begins like it, and then nothing of it is left."""
    tenant_id, key_id = record["tenant_id"], record["key_id"]
    names = store.keys.tenant(tenant_id)
    name, lookup = names.api_key(key_id), store.keys.api_key_lookup(secret)
    lookup_value = store.keys.layout.lookup_value(tenant_id, key_id)
    apart = store.keys.tagged
    written = create.read(
        await mutate(
            store,
            call,
            tenant_id,
            create.NAME,
            create.Keys(
                key_record_made=name,
                tenant_keys=names.api_keys(),
                tenant_keys_twin=names.listed(names.api_keys()).twin,
                lookup=name if apart else lookup,
            ),
            create.Arguments(
                key_id=key_id,
                record=write_json(record),
                lookup_value="" if apart else lookup_value,
            ),
            Change(
                "createApiKey",
                "api_key",
                key_id,
                {"name": record["name"], "permissions": asked},
                status=201,
            ),
            owner=ACTIVE_OWNER,
        )
    )
    if not written or not apart:
        return written
    # The entry that no tenant's script can write comes last: it never leads to a record that is
    # not there.
    if await store.write("SET", lookup, lookup_value, "NX"):
        return True
    await store.write("SREM", names.api_keys(), key_id)
    await store.write("DEL", name)
    return False


async def update_api_key(store: Store, call: Call, key_id: str, body: Body) -> Body:
    """Change what a key may do, or what people read of it; its secret stays.

    Args:
        body: ApiKeyUpdateRequest.

    Returns:
        The ApiKey.

    Raises:
        Refusal: NOT_FOUND; 400 for a member that is not allowed; TENANT_CLOSED; KEY_REVOKED,
            KEY_EXPIRED.
        StoreError: the store failed, or the record cannot be read.
    """

    def changed(record: Record, now: int) -> Change:
        _check_members(body)
        _refuse_revoked(record)
        if key_status(record, now) == EXPIRED:
            raise Refusal("KEY_EXPIRED", "This API key has expired; make a new one")
        record.update(body)
        facts = {name: body.get(name) for name in ("permissions", "scope_filter", "name")}
        return Change("updateApiKey", "api_key", key_id, facts)

    return await _changed(store, call, key_id, changed)


async def revoke_api_key(store: Store, call: Call, key_id: str, reason: str = "") -> Body:
    """Take a key out of force, for good; one that has expired, too.

    Returns:
        The ApiKey.

    Raises:
        Refusal: NOT_FOUND; TENANT_CLOSED; KEY_REVOKED for one that is revoked already.
        StoreError: the store failed, or the record cannot be read.
    """
    why = reason if reason.strip() else None

    def changed(record: Record, now: int) -> Change:
        _refuse_revoked(record)
        record.update(status=REVOKED, revoked_at=iso_instant(now))
        if why is not None:
            record["revoked_reason"] = why
        facts = {"name": record.get("name"), "reason": why}
        return Change("revokeApiKey", "api_key", key_id, facts)

    return await _changed(store, call, key_id, changed)


async def _changed(
    store: Store, call: Call, key_id: str, changed: Callable[[Record, int], Change]
) -> Body:
    key, tenant_id = await _find(store, key_id)
    body: Body = {}

    def checked(record: Record, now: int) -> Change:
        nonlocal body
        change = changed(record, now)
        body = key_body(record, now)  # what it stumbles over is left as it is
        return change

    absent = no_such_key()
    async with closed_first(store, tenant_id):  # before what the key's own state says
        await change_record(store, call, tenant_id, key, checked, absent=absent, owner=OPEN_OWNER)
    return body


async def _find(store: Store, key_id: str) -> tuple[str, str]:
    """Where a key's record lies, and whose it is.

    Raises:
        Refusal: NOT_FOUND.
        StoreError: the store failed, or the record cannot be read.
    """
    if ":" in key_id:
        raise no_such_key()  # below a key's name there are others, which are no records
    likeliest, *others = (bucket.api_key(key_id) for bucket in store.keys.buckets_of_id(key_id))
    found = {likeliest: await store.read("GET", likeliest)}
    if not found[likeliest]:
        replies = await asyncio.gather(*(store.read("GET", name) for name in others))
        found = dict(zip(others, replies, strict=True))
    for key, stored in found.items():
        if stored:
            return key, _owner(key, stored)
    raise no_such_key()


def _owner(key: str, stored: bytes) -> str:
    tenant_id = read_record(key, stored).get("tenant_id")
    if not isinstance(tenant_id, str):
        raise StoreCorrupt(f"{key} is nobody's")
    return tenant_id


def no_such_key() -> Refusal:
    # What was asked for may be a secret, in the wrong place: it is not repeated.
    return Refusal("NOT_FOUND", "There is no API key with this id")


def _refuse_revoked(record: Record) -> None:
    if _is_revoked(record):
        raise Refusal("KEY_REVOKED", "This API key is revoked, and stays so")


def _check_members(body: Body) -> None:
    """What the contract says of the record and its requests do not repeat."""
    name, description = body.get("name"), body.get("description")
    if name is not None and not (name.strip() and len(name) <= _BOUNDED["name"]):
        raise invalid("name", f"must be 1 to {_BOUNDED['name']} characters, not only blanks")
    if description is not None and len(description) > _BOUNDED["description"]:
        raise invalid("description", f"has more than {_BOUNDED['description']} characters")
    for place, entry in enumerate(body.get("scope_filter") or ()):
        if not entry.strip():
            raise invalid(f"scope_filter.{place}", "must not be blank: no scope would meet it")


def _expiry(text: str | None, now: int) -> str:
    if text is None:
        return iso_instant(now + VALID_DAYS * DAY_MS)
    try:
        ms = read_moment(text).ms
    except ValueError:
        message = "must be an RFC 3339 date-time like 2026-04-10T12:00:00Z"
        raise invalid("expires_at", message) from None
    if ms <= now:
        raise invalid("expires_at", "must lie ahead")
    return iso_instant(min(ms, instant_ms(NEVER)))


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
