"""Whether a secret is a good API key, and whose: for other services of the deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cycles_server.auth.lookup import look_up
from cycles_server.auth.records import CLOSED, UNREADABLE, KeyRecord, read_key, read_tenant
from cycles_server.governance.api_keys import ACTIVE, Body, key_body
from cycles_server.governance.records import read_record
from cycles_server.refusal import invalid
from cycles_server.store.clock import epoch_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

Matches = Callable[[str, KeyRecord], Awaitable[bool]]
"""Whether a secret is a key's own (:meth:`ApiKeys.verify`)."""

_TOLD_OF_GOOD = ("tenant_id", "key_id", "permissions", "scope_filter", "expires_at")
_UNKNOWN: Body = {"valid": False, "tenant_id": "", "reason": "KEY_NOT_FOUND"}
"""Also for a secret that begins like a key's: whoever does not hold the whole learns nothing."""


async def validate_api_key(store: Store, secret: str, matches: Matches) -> Body:
    """The contract's ApiKeyValidationResponse.

    The reason of a bad one: KEY_NOT_FOUND, REVOKED, EXPIRED, TENANT_NOT_FOUND, TENANT_SUSPENDED,
    TENANT_CLOSED.

    Raises:
        Refusal: 400 for a blank; as ``matches``.
        StoreError: the store failed, or a record cannot be read: that is no verdict.
    """
    if not secret.strip():
        raise invalid("key_secret", "must not be blank")
    found = await look_up(store, secret)
    if found is None or not found.record:
        return _UNKNOWN
    key = _key(found.key_id, found.record)
    if found.tenant not in (None, key.tenant):
        return _UNKNOWN
    if not await matches(secret, key):
        return _UNKNOWN
    # As it is now: the hash has taken its time.
    names = store.keys.tenant(key.tenant)
    name = names.api_key(found.key_id)
    record, tenant_record, clock = await asyncio.gather(
        store.read("GET", name), store.read("GET", names.record), store.read("TIME")
    )
    if not record or _key(found.key_id, record).key_hash != key.key_hash:
        return _UNKNOWN
    shown = key_body(read_record(name, record), epoch_ms(clock))
    reason = shown["status"] if shown["status"] != ACTIVE else _tenant_refuses(tenant_record)
    told = ("tenant_id", "key_id") if reason else _TOLD_OF_GOOD
    body = {"valid": not reason, **{member: shown[member] for member in told if member in shown}}
    return {**body, "reason": reason} if reason else body


def _key(key_id: str, record: bytes) -> KeyRecord:
    key = read_key(record)
    if key is None:
        raise StoreCorrupt(f"the record of API key {key_id} cannot be read")
    return key


def _tenant_refuses(record: bytes | None) -> str:
    """Why a tenant's keys are not good; empty if they are."""
    if not record:
        return "TENANT_NOT_FOUND"
    policy = read_tenant(record)
    if policy.guard == UNREADABLE:
        raise StoreCorrupt("the record of a key's tenant cannot be read")
    if policy.guard == CLOSED:
        return "TENANT_CLOSED"
    return "TENANT_SUSPENDED" if policy.suspended else ""
