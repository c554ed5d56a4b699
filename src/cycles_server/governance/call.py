"""One call of governance: who changes something, where it came from, and what it leaves behind."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cycles_server.auth.confirmation import Confirmation, StaleCredential
from cycles_server.auth.principal import OPERATOR, Principal
from cycles_server.auth.records import CLOSED, read_tenant
from cycles_server.auth.redaction import json_without_secrets
from cycles_server.governance.refusals import refusal
from cycles_server.governance.scripts.head import HeadArguments, HeadKeys
from cycles_server.jsontext import write_json
from cycles_server.refusal import Refusal
from cycles_server.store.answers import is_stale, refused_in
from cycles_server.store.clock import DAY_MS
from cycles_server.store.link import Argument, Reply
from cycles_server.store.store import Store

_MOST_METADATA_BYTES = 16_384

ACTIVE_OWNER, OPEN_OWNER, ANY_OWNER = "ACTIVE", "OPEN", ""
"""What the owning tenant must be: in force; not closed; anything, or not there at all."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and from where.

    A script that finds the records of the caller's key changed does nothing: who has its secret
    repeats the whole call (``contract/security.py``).

    Attributes:
        confirmation: done as soon as a script has found the caller's records unchanged.
        request_id, trace_id, client, user_agent: what an audit entry tells of the request
            (``client`` is a socket address); empty where none stands behind the call.
        audit_days: how long its audit entries are kept; 0 for ever.
    """

    principal: Principal = OPERATOR
    confirmation: Confirmation = field(default_factory=Confirmation)
    request_id: str = ""
    trace_id: str = ""
    client: str = ""
    user_agent: str = ""
    audit_days: int = 400

    @property
    def actor_type(self) -> str:
        """How an audit entry calls the caller of an operation that is open to tenants, too."""
        return "admin_on_behalf_of" if self.principal.is_admin else "api_key"


class Change(NamedTuple):
    """What an audit entry tells of a change.

    Attributes:
        operation: the operationId.
        resource_id: empty where the script alone knows it.
        status: what the request is answered with.
        facts: the entry's metadata; a value that is None is left out.
        silent: whether it leaves no entry, as part of a call that has one for all of it.
    """

    operation: str
    resource_type: str
    resource_id: str
    facts: Mapping[str, Any] = {}
    status: int = 200
    silent: bool = False


def new_log_id() -> str:
    """The id of an audit entry."""
    return f"log_{uuid.uuid4().hex[:16]}"


def audited_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What an entry tells of the metadata of a request; of a long one only how long it was."""
    if metadata is None:
        return None
    size = len(write_json(metadata))
    return metadata if size <= _MOST_METADATA_BYTES else {"omitted_bytes": size}


def audit_members(
    call: Call, tenant: str, *, operation: str, status: int, **more: str
) -> dict[str, Any]:
    """An audit entry's members, but for its id, time and metadata; empty ones are left out."""
    members: dict[str, Any] = {
        "tenant_id": tenant,
        "key_id": "" if call.principal.is_admin else call.principal.key_id,
        "user_agent": call.user_agent,
        "source_ip": call.client,
        "operation": operation,
        **more,
        "request_id": call.request_id,
        "trace_id": call.trace_id,
    }
    return {name: value for name, value in members.items() if value} | {"status": status}


@asynccontextmanager
async def closed_first(store: Store, tenant: str) -> AsyncIterator[None]:
    """Whatever else is wrong with it: what is asked of a closed tenant is refused as that.

    Raises:
        Refusal: TENANT_CLOSED in place of the one that is raised inside.
        StoreError: the store failed.
    """
    try:
        yield
    except Refusal:
        record = await store.read("GET", store.keys.tenant(tenant).record)
        if read_tenant(record).guard == CLOSED:
            raise refusal("TENANT_CLOSED", tenant) from None
        raise


async def mutate(
    store: Store,
    call: Call,
    tenant: str,
    script: str,
    keys: Sequence[str],
    arguments: Sequence[Argument],
    change: Change,
    *,
    owner: str,
) -> Reply:
    """Run one of governance's scripts: the change and its audit entry in one step.

    Args:
        tenant: whose it is that is changed.
        owner: what that tenant must be, ACTIVE_OWNER, OPEN_OWNER or ANY_OWNER.

    Raises:
        StaleCredential: the records of the caller's key have changed; nothing was done.
        Refusal: as the script says; nothing was done.
        StoreError: the store failed.
    """
    names = store.keys.tenant(tenant)
    principal = call.principal
    by_key = not principal.is_admin
    log_id = "" if change.silent else new_log_id()
    members = audit_members(
        call,
        tenant,
        operation=change.operation,
        status=change.status,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
    )
    facts = {name: value for name, value in change.facts.items() if value is not None}
    answer = await store.call(
        tenant,
        script,
        [
            *HeadKeys(
                key_record=names.api_key(principal.key_id) if by_key else names.record,
                tenant_record=names.record,
                audit_record=names.audit_entry(log_id),
                audit_of_tenant=names.audit_tenant_index,
                audit_of_all=names.audit_index,
            ),
            *keys,
        ],
        [
            *HeadArguments(
                verified_key=principal.key_record if by_key else b"",
                verified_tenant=principal.tenant_record if by_key else b"",
                key_valid_until=principal.expires_at if by_key else "",
                tenant=tenant,
                owner_rule=owner,
                audit_id=log_id,
                audit_members=json_without_secrets(write_json(members)[1:-1]),
                audit_facts=json_without_secrets(write_json(facts)[1:-1]),
                audit_kept_ms=call.audit_days * DAY_MS,
            ),
            *arguments,
        ],
    )
    if is_stale(answer):
        raise StaleCredential
    call.confirmation.done = True
    refused = refused_in(answer)
    if refused is not None:
        about = [change.facts.get("scope"), change.facts.get("unit"), change.resource_id]
        raise refusal(
            refused.code, tenant, " ".join([change.resource_type, *map(str, filter(None, about))])
        )
    return answer
