"""Tenants: made, looked up, changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cycles_server.auth.records import (
    DEFAULT_MAX_EXTENSIONS,
    DEFAULT_MAX_TTL_MS,
    DEFAULT_OVERAGE_POLICY,
    DEFAULT_TTL_MS,
    iso_instant,
)
from cycles_server.governance.call import ANY_OWNER, Call, Change, mutate
from cycles_server.governance.records import Record, change_record, read_record, require_texts
from cycles_server.governance.scripts import create_tenant as create
from cycles_server.jsontext import write_json
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

Body = dict[str, Any]

ACTIVE, SUSPENDED, CLOSED = "ACTIVE", "SUSPENDED", "CLOSED"

_ID = re.compile(r"[a-z0-9-]{3,64}")
_MOST_METADATA = 32
_LONGEST_NAME = 256
_MEMBERS = (
    "tenant_id",
    "name",
    "status",
    "created_at",
    "parent_tenant_id",
    "default_commit_overage_policy",
    "default_reservation_ttl_ms",
    "max_reservation_ttl_ms",
    "max_reservation_extensions",
    "reservation_expiry_policy",
    "metadata",
    "updated_at",
    "suspended_at",
    "closed_at",
)
"""A tenant's members in their stored order; others that a record may have are not answered."""
_DEFAULTS: Mapping[str, Any] = {
    "default_commit_overage_policy": DEFAULT_OVERAGE_POLICY,
    "default_reservation_ttl_ms": DEFAULT_TTL_MS,
    "max_reservation_ttl_ms": DEFAULT_MAX_TTL_MS,
    "max_reservation_extensions": DEFAULT_MAX_EXTENSIONS,
}
TOLD = (
    "name",
    "default_commit_overage_policy",
    "default_reservation_ttl_ms",
    "max_reservation_ttl_ms",
    "max_reservation_extensions",
)
"""Members whose new values an audit entry tells; metadata is the tenant's own business."""


def tenant_body(record: Record) -> Body:
    """The contract's Tenant.

    Raises:
        StoreCorrupt: the record does not say who it is, or in what state.
    """
    body = {name: record[name] for name in _MEMBERS if record.get(name) is not None}
    # A required member: the beginning of time for a record that does not say.
    body.setdefault("created_at", iso_instant(0))
    require_texts(body, "tenant_id", "name", "created_at")
    if body.get("status") not in (ACTIVE, SUSPENDED, CLOSED):
        raise StoreCorrupt(f"status of a tenant is {body.get('status')!r}")
    if "metadata" in body:
        # One value of another server's that the contract cannot say must not cost the whole list.
        pairs = body["metadata"] if isinstance(body["metadata"], dict) else {}
        body["metadata"] = {name: text for name, text in pairs.items() if isinstance(text, str)}
    return body


async def create_tenant(store: Store, call: Call, body: Body) -> tuple[Body, bool]:
    """Make a tenant; one that exists under this id and name is answered as it is.

    Args:
        body: TenantCreateRequest.

    Returns:
        The Tenant, and whether it is new.

    Raises:
        Refusal: 400 for a member that is not allowed, DUPLICATE_RESOURCE for an id that another
            name has.
        StoreError: the store failed.
    """
    tenant_id = body["tenant_id"]
    # The contract's pattern, too, but `$` lets a line's end pass.
    if not _ID.fullmatch(tenant_id):
        raise invalid("tenant_id", "must be 3 to 64 of the letters a-z, digits and '-'")
    _check_members(body)
    key = store.keys.tenant(tenant_id).record
    apart = store.keys.tagged
    if apart:
        # First: who walks over all tenants passes over a name that leads nowhere.
        await store.write("SADD", store.keys.tenants, tenant_id)
    values = {**_DEFAULTS, **body, "status": ACTIVE, "created_at": iso_instant(await now_ms(store))}
    answer = create.read(
        await mutate(
            store,
            call,
            tenant_id,
            create.NAME,
            create.Keys(key, key) if apart else create.Keys(*store.keys.listed_tenants),
            create.Arguments(record=write_json(tenant_body(values)), apart="1" if apart else ""),
            Change("createTenant", "tenant", tenant_id, {"name": body["name"]}, status=201),
            owner=ANY_OWNER,
        )
    )
    if isinstance(answer, create.Created):
        return tenant_body(values), True
    stored = read_record(key, answer.record)
    if stored.get("name") != body["name"]:
        raise Refusal("DUPLICATE_RESOURCE", f"Tenant {tenant_id} exists under another name")
    return tenant_body(stored), False


async def find_tenant(store: Store, tenant_id: str) -> Body:
    """The contract's Tenant.

    Raises:
        Refusal: TENANT_NOT_FOUND.
        StoreError: the store failed, or the record cannot be read.
    """
    key = store.keys.tenant(tenant_id).record
    stored = await store.read("GET", key)
    if not stored:
        raise no_such_tenant(tenant_id)
    return tenant_body(read_record(key, stored))


async def update_tenant(store: Store, call: Call, tenant_id: str, body: Body) -> Body:
    """Change a tenant's settings, or suspend it, or take it back; how one is closed is said in
    ``governance/closing/cascade.py``.

    A status that the tenant has already is no transition: the time of the real one stays.

    Args:
        body: TenantUpdateRequest.

    Raises:
        Refusal: TENANT_NOT_FOUND; 400 for a member that is not allowed, or a way out of CLOSED.
        StoreError: the store failed, or the record cannot be read.
    """
    asked = asked_changes(body)

    def changed(record: Record, now: int) -> Change | None:
        before, status = record.get("status"), asked.get("status")
        if before == CLOSED and status is not None:
            raise invalid("status", f"tenant {tenant_id} is CLOSED, and stays so")
        at = iso_instant(now)
        record.update({name: value for name, value in asked.items() if name != "status"})
        record["updated_at"] = at
        new_status = status if status != before else None
        if new_status is not None:
            turn(record, new_status, at)
        tenant_body(record)  # what could not be answered is left as it is
        facts = {name: asked.get(name) for name in TOLD}
        return Change("updateTenant", "tenant", tenant_id, {"new_status": new_status, **facts})

    record = await change_record(
        store,
        call,
        tenant_id,
        store.keys.tenant(tenant_id).record,
        changed,
        absent=no_such_tenant(tenant_id),
        owner=ANY_OWNER,
    )
    return tenant_body(record)


def turn(record: Record, status: str, at: str) -> None:
    """Write in a record that the tenant is SUSPENDED, or ACTIVE again; when it was suspended
    stays."""
    record.update(status=status, updated_at=at)
    if status == SUSPENDED:
        record["suspended_at"] = at


def asked_changes(body: Body) -> Body:
    """What an update asks for.

    Raises:
        Refusal: 400 for a member that is not allowed.
    """
    _check_members(body)
    return dict(body)


def no_such_tenant(tenant_id: str) -> Refusal:
    return Refusal("TENANT_NOT_FOUND", f"There is no tenant {tenant_id}")


def _check_members(body: Mapping[str, Any]) -> None:
    """What the contract says of the record and its requests do not repeat."""
    name = body.get("name")
    if name is not None and not (name.strip() and len(name) <= _LONGEST_NAME):
        raise invalid("name", f"must be 1 to {_LONGEST_NAME} characters, not only blanks")
    metadata = body.get("metadata") or {}
    if len(metadata) > _MOST_METADATA:
        raise invalid("metadata", f"has more than {_MOST_METADATA} entries")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise invalid("metadata", f"{key!r} must be a text")
