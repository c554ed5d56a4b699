"""The answer to a reserve that was asked before, from what the reservation keeps."""

from __future__ import annotations

from cycles_server.ledger.bodies import Body, balances, reservation_body, stored_scopes
from cycles_server.ledger.scripts.reserve import Replayed


def replayed_reserve(answer: Replayed) -> Body:
    """The first answer's body, with a fresh ``remaining_ttl_ms``."""
    # An extension moved `expires_at`; the answer was the first one.
    lease = answer.lease_ms
    expires = answer.created_at_ms + lease
    left = expires - answer.now_ms
    scopes = stored_scopes(answer.scopes_json)
    return reservation_body(
        answer.reservation_id,
        answer.unit,
        answer.estimate,
        expires_at_ms=expires,
        remaining_ttl_ms=max(0, left) if answer.state == b"ACTIVE" else 0,
        scope_path=answer.scope_path,
        affected_scopes=scopes,
        caps=answer.caps,
        balances=balances(answer.balances, scopes, answer.unit),
    )
