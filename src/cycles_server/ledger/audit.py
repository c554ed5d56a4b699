"""The audit entry of what the operator does on a tenant's behalf."""

from __future__ import annotations

import uuid
from typing import NamedTuple

import orjson

from cycles_server.auth.records import iso_instant
from cycles_server.ledger.bodies import Body
from cycles_server.ledger.call import Call
from cycles_server.store.clock import DAY_MS


class AuditEntry(NamedTuple):
    """An entry that a script writes in the same step as what it tells of.

    Attributes:
        json: the entry itself.
        kept_ms: its life, 0 for ever.
    """

    id: str
    json: bytes
    kept_ms: int


NO_AUDIT = AuditEntry("", b"", 0)
"""A tenant's own release leaves no entry."""


def operator_release_entry(
    call: Call, body: Body, reservation_id: str, *, now_ms: int, kept_days: int
) -> AuditEntry:
    """The entry of an operator's release (contract: releaseReservation, audit), filed under the
    reservation's tenant so that the governance plane's audit query finds it.

    Args:
        now_ms: the store's clock, epoch ms.
        kept_days: life of the entry in days, 0 for ever.
    """
    log_id = f"log_{uuid.uuid4().hex[:16]}"
    metadata = {"actor_type": "admin_on_behalf_of"}
    if "reason" in body:
        # One line, so that a reason cannot pretend to be another entry in a log.
        metadata["reason"] = " ".join(body["reason"].splitlines())
    entry = {
        "log_id": log_id,
        "timestamp": iso_instant(now_ms),
        "tenant_id": call.account.names.tenant,
        "source_ip": call.client,
        "operation": "releaseReservation",
        "resource_type": "reservation",
        "resource_id": reservation_id,
        "request_id": call.request_id,
        "trace_id": call.trace_id,
        "status": 200,
        "metadata": metadata,
    }
    return AuditEntry(log_id, orjson.dumps(entry), kept_days * DAY_MS)
