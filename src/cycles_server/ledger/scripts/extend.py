"""``lua/extend.lua``: move a live reservation's expiry outward."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import FOREIGN
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "extend"


class Keys(NamedTuple):
    reservation: str
    expiries: str
    extension_record: str


class Arguments(NamedTuple):
    budget_prefix: str
    reservation_id: str
    idempotency_key: str
    request_hash: bytes
    extend_by_ms: int
    reserve_prefix: str


class Extended(NamedTuple):
    """The expiry is moved, now or by an earlier, identical request.

    Attributes:
        state: the reservation's now.
        expires_at_ms: where this extension has moved it.
        scopes_json: the scopes that hold, a JSON array.
        balances: see ``lua/lib/budgets.lua``.
    """

    replayed: bool
    now_ms: int
    state: bytes
    expires_at_ms: int
    unit: str
    scopes_json: bytes
    balances: bytes


class Foreign(NamedTuple):
    """Extended under this key by another server; ``record`` is what that one keeps of it."""

    now_ms: int
    state: bytes
    record: bytes


@from_records
def read(answer: Reply) -> Extended | Foreign:
    """The answer by name."""
    if answer[0] == FOREIGN:
        _, now, state, record = answer
        return Foreign(int(now), state, record)
    kind, now, state, expires, unit, scopes, balances = answer
    return Extended(kind == REPLAY, int(now), state, int(expires), unit.decode(), scopes, balances)
