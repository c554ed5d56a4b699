"""The answer to a reserve that was asked before, from what the reservation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from cycles_server.auth.records import CLOSED, OPEN, UNREADABLE
from cycles_server.http.json import canonical
from cycles_server.ledger.accounts import Account
from cycles_server.ledger.bodies import (
    Body,
    balances,
    reservation_body,
    stored_scopes,
    without_nulls,
)
from cycles_server.ledger.refusals import refusal

# What a different request under the same key is told: the tenant's guard comes first.
_MISMATCH = {
    OPEN: b"IDEMPOTENCY_MISMATCH",
    CLOSED: b"TENANT_CLOSED",
    UNREADABLE: b"TENANT_UNREADABLE",
}


def replayed_reserve(request: Body, account: Account, answer: Sequence[Any]) -> Body:
    """The first answer's body, with a fresh ``remaining_ttl_ms``.

    Args:
        answer: a ``REPLAY`` of lua/reserve.lua.

    Raises:
        Problem: the reservation was made by another server, for a different request.
    """
    (
        _,
        now,
        stored_hash,
        reservation_id,
        held,
        unit,
        created,
        lease,
        state,
        scope_path,
        affected,
        caps,
        snapshot,
        policy,
        subject,
        action,
        metadata,
        expires_at,
    ) = answer
    if stored_hash is None:
        stored = [subject, action, metadata, held, unit, policy]
        if not _same_request(request, stored):
            raise refusal([b"ERROR", _MISMATCH[account.policy.guard]])
    # An extension moved `expires_at`; the answer was the first one.
    expires = int(expires_at) if lease is None else int(created) + int(lease)
    scopes = stored_scopes(affected)
    return reservation_body(
        reservation_id.decode(),
        unit.decode(),
        held,
        expires_at_ms=expires,
        remaining_ttl_ms=max(0, expires - int(now)) if state == b"ACTIVE" else 0,
        scope_path=scope_path.decode(),
        affected_scopes=scopes,
        caps=caps,
        balances=balances(snapshot or b"", scopes, unit.decode()),
    )


def _same_request(body: Body, stored: Sequence[bytes | None]) -> bool:
    """Whether a reservation made by another server, whose request hash cannot be reproduced,
    answers this request."""
    subject, action, metadata, held, unit, policy = stored
    kept_policy = (policy or b"").decode()

    def same(member: str, text: bytes | None) -> bool:
        # The reference writes out what was not sent, as null or as empty.
        sent = body.get(member) or None
        kept = (None if text is None else orjson.loads(text)) or None
        if member != "metadata":
            sent, kept = without_nulls(sent), without_nulls(kept)
        return canonical(sent) == canonical(kept)

    estimate = body["estimate"]
    return (
        same("subject", subject)
        and same("action", action)
        and same("metadata", metadata)
        and str(estimate["amount"]).encode() == held
        and estimate["unit"].encode() == unit
        and body.get("overage_policy", kept_policy) == kept_policy
    )
