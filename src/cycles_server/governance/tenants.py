"""Tenants: their records, and the set that names them all."""

from __future__ import annotations

import re

import orjson

from cycles_server.auth.records import (
    DEFAULT_MAX_EXTENSIONS,
    DEFAULT_MAX_TTL_MS,
    DEFAULT_OVERAGE_POLICY,
    DEFAULT_TTL_MS,
    iso_instant,
)
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.clock import now_ms
from cycles_server.store.store import Store

_ID = re.compile(r"[a-z0-9-]{3,64}")


async def create_tenant(store: Store, tenant_id: str, name: str | None = None) -> bool:
    """Make a tenant in force; one that exists is left alone. Returns whether it is new.

    Raises:
        Refusal: 400 for an id that is not allowed; or the tenant exists and is not ACTIVE.
        StoreError: the store failed.
    """
    if not _ID.fullmatch(tenant_id):
        raise invalid(
            f"tenant {tenant_id!r}", "an id is 3 to 64 of the letters a-z, digits and '-'"
        )
    names = store.keys.tenant(tenant_id)
    record = {
        "tenant_id": tenant_id,
        "name": name or tenant_id,
        "status": "ACTIVE",
        "created_at": iso_instant(await now_ms(store)),
        "default_commit_overage_policy": DEFAULT_OVERAGE_POLICY,
        "default_reservation_ttl_ms": DEFAULT_TTL_MS,
        "max_reservation_ttl_ms": DEFAULT_MAX_TTL_MS,
        "max_reservation_extensions": DEFAULT_MAX_EXTENSIONS,
    }
    created = bool(await store.write("SET", names.record, orjson.dumps(record), "NX"))
    if not created:
        status = _status(await store.read("GET", names.record))
        if status != "ACTIVE":
            code = "TENANT_CLOSED" if status == "CLOSED" else "INVALID_REQUEST"
            raise Refusal(code, f"tenant {tenant_id} exists and is {status}")
    await store.write("SADD", store.keys.tenants, tenant_id)
    return created


def _status(record: bytes | None) -> str:
    try:
        return str(orjson.loads(record or b"")["status"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"
