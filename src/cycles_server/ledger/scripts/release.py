"""``lua/release.lua``: give a hold back to the budgets that still hold it."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import FOREIGN
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "release"


class Keys(NamedTuple):
    """Behind them where the reference's answer is kept, if it is (``kept``)."""

    reservation: str
    expiries: str
    audit_record: str
    audit_of_tenant: str
    audit_of_all: str


class Arguments(NamedTuple):
    budget_prefix: str
    reservation_id: str
    idempotency_key: str
    request_hash: bytes
    audit_entry: bytes
    audit_id: str
    audit_kept_ms: int


class Released(NamedTuple):
    """It is given back, now or by an earlier, identical request.

    Attributes:
        scopes_json: the scopes that held it, a JSON array.
        balances: see ``lua/lib/budgets.lua``.
    """

    replayed: bool
    estimate: int
    unit: str
    scopes_json: bytes
    balances: bytes


class Foreign(NamedTuple):
    """Released under this key by another server."""


@from_records
def read(answer: Reply) -> Released | Foreign:
    """The answer by name."""
    if answer[0] == FOREIGN:
        return Foreign()
    kind, estimate, unit, scopes, balances = answer
    return Released(kind == REPLAY, int(estimate), unit.decode(), scopes, balances)
