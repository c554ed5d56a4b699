"""The audit entry of a call that was refused, or that failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cycles_server.governance.call import Call, audit_members, new_log_id
from cycles_server.governance.scripts import leave_entry as script
from cycles_server.governance.scripts.head import HeadArguments, HeadKeys
from cycles_server.jsontext import write_json
from cycles_server.store.clock import DAY_MS
from cycles_server.store.store import Store

BY_OPERATOR = "__admin__"
"""Whose an entry is where the operator's key was used; no tenant has such an id."""
UNAUTHENTICATED = "__unauth__"
"""Whose an entry is where nobody was authenticated."""


class RefusedCall(NamedTuple):
    """What an entry tells.

    Attributes:
        tenant: the caller's, or one of the sentinels.
        operation: the operationId, or what was asked for where that is none.
        status, error_code: how the call ended.
        facts: the entry's metadata.
    """

    tenant: str
    operation: str
    status: int
    error_code: str
    facts: Mapping[str, Any]


async def leave_entry(store: Store, call: Call, refused: RefusedCall) -> None:
    """Write the entry, kept for the call's ``audit_days``.

    Raises:
        StoreError: the store failed, and the entry may be lost.
    """
    tenant = refused.tenant
    names = store.keys.tenant(tenant)
    log_id = new_log_id()
    members = audit_members(
        call,
        tenant,
        operation=refused.operation,
        status=refused.status,
        error_code=refused.error_code,
    )
    answer = await store.call(
        tenant,
        script.NAME,
        HeadKeys(
            key_record=names.record,
            tenant_record=names.record,
            audit_record=names.audit_entry(log_id),
            audit_of_tenant=names.audit_tenant_index,
            audit_of_all=names.audit_index,
        ),
        HeadArguments(
            verified_key=b"",
            verified_tenant=b"",
            key_valid_until="",
            tenant=tenant,
            owner_rule="",
            audit_id=log_id,
            audit_members=write_json(members)[1:-1],
            audit_facts=write_json(refused.facts)[1:-1],
            audit_kept_ms=call.audit_days * DAY_MS,
        ),
    )
    script.read(answer)
