"""The audit entry of what the operator does on a tenant's behalf."""

from __future__ import annotations

import uuid
from typing import TypedDict

import orjson

from cycles_server.auth.records import iso_instant
from cycles_server.http.exchange import Exchange

_DAY_MS = 86_400_000


class AuditArguments(TypedDict):
    """What :meth:`Ledger.release` takes to write the entry in the same step."""

    audit_id: str
    audit_entry: bytes
    audit_kept_ms: int


NO_AUDIT: AuditArguments = {"audit_id": "", "audit_entry": b"", "audit_kept_ms": 0}
"""A tenant's own release leaves no entry."""


def operator_release_entry(
    exchange: Exchange, tenant: str, reservation_id: str, *, now_ms: int, kept_days: int
) -> AuditArguments:
    """The entry of an operator's release (contract: releaseReservation, audit), filed under the
    reservation's tenant so that the governance plane's audit query finds it.

    Args:
        now_ms: the store's clock, epoch ms.
        kept_days: life of the entry in days, 0 for ever.
    """
    log_id = f"log_{uuid.uuid4().hex[:16]}"
    metadata = {"actor_type": "admin_on_behalf_of"}
    if "reason" in exchange.body:
        # One line, so that a reason cannot pretend to be another entry in a log.
        metadata["reason"] = " ".join(exchange.body["reason"].splitlines())
    entry = {
        "log_id": log_id,
        "timestamp": iso_instant(now_ms),
        "tenant_id": tenant,
        "source_ip": exchange.client,
        "operation": "releaseReservation",
        "resource_type": "reservation",
        "resource_id": reservation_id,
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "status": 200,
        "metadata": metadata,
    }
    return {
        "audit_id": log_id,
        "audit_entry": orjson.dumps(entry),
        "audit_kept_ms": kept_days * _DAY_MS,
    }
