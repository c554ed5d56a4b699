"""``lua/commit.lua``: charge what was really used, and give back the rest of the hold."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import FOREIGN
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "commit"


class Keys(NamedTuple):
    """Behind them where the reference's answer is kept, if it is (``kept``)."""

    reservation: str
    expiries: str


class Arguments(NamedTuple):
    budget_prefix: str
    reservation_id: str
    idempotency_key: str
    request_hash: bytes
    actual: str
    actual_unit: str
    metrics: bytes
    metadata: bytes


class Committed(NamedTuple):
    """It is charged, now or by an earlier, identical request.

    Attributes:
        unit: of the estimate, and so of all amounts.
        scopes_json: the scopes that hold, a JSON array.
        balances: see ``lua/lib/budgets.lua``.
    """

    replayed: bool
    charged: int
    estimate: int
    unit: str
    scopes_json: bytes
    balances: bytes
    policy: str
    in_debt: bool


class OtherUnit(NamedTuple):
    """The reservation's estimate is in another unit."""

    unit: str
    scopes_json: bytes


class Foreign(NamedTuple):
    """Committed under this key by another server."""


@from_records
def read(answer: Reply) -> Committed | OtherUnit | Foreign:
    """The answer by name."""
    if answer[0] == FOREIGN:
        return Foreign()
    if answer[0] == b"UNIT_MISMATCH":
        _, unit, scopes = answer
        return OtherUnit(unit.decode(), scopes)
    kind, charged, estimate, unit, scopes, balances, policy, debt = answer
    return Committed(
        kind == REPLAY,
        int(charged),
        int(estimate),
        unit.decode(),
        scopes,
        balances,
        policy.decode(),
        debt != b"0",
    )
