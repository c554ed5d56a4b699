"""``lua/evaluate.lua``: would this amount be held?"""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import NO_BUDGET, NoBudget
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "evaluate"


class Keys(NamedTuple):
    """Behind them the budgets of the scopes, and the policies that could govern."""

    idempotency_record: str
    hash_record: str
    policies: str


class Arguments(NamedTuple):
    """Behind them the scopes, from the tenant down, and the policies' records.

    Attributes:
        kind: ``decide`` or ``dry_run``.
        no_budget: ``1`` once no scope is known to have a budget in any unit, else empty.
    """

    kind: str
    request_hash: bytes
    no_budget: str
    estimate: str
    unit: str
    scopes_json: bytes
    policies_known: int
    policy_count: int
    policy_until: str
    policy_caps: bytes


class Decided(NamedTuple):
    """A decision, made now or for an earlier, identical request.

    Attributes:
        body: the response body as JSON.
    """

    replayed: bool
    body: bytes


@from_records
def read(answer: Reply) -> Decided | NoBudget:
    """The answer by name."""
    if answer[0] == NO_BUDGET:
        return NoBudget()
    kind, body = answer
    return Decided(kind == REPLAY, body)
