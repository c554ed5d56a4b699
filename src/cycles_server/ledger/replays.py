"""The answer to a reserve that was asked before, from what the reservation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cycles_server.ledger.bodies import Body, balances, reservation_body, stored_scopes


def replayed_reserve(answer: Sequence[Any]) -> Body:
    """The first answer's body, with a fresh ``remaining_ttl_ms``.

    Args:
        answer: a ``REPLAY`` of lua/reserve.lua.
    """
    (
        _,
        now,
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
        _,
    ) = answer
    # An extension moved `expires_at`; the answer was the first one.
    expires = int(created) + int(lease)
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
        balances=balances(snapshot, scopes, unit.decode()),
    )
