"""``lua/debit.lua``: charge budgets directly, for what could not be estimated before."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import FOREIGN, NO_BUDGET, NoBudget
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "debit"


class Keys(NamedTuple):
    """Behind them the budgets of the scopes, and the policies that could govern."""

    idempotency_record: str
    event: str
    policies: str


class Arguments(NamedTuple):
    """Behind them the scopes, from the tenant down, and the policies' records.

    Attributes:
        kept: ``1`` where the reference's form of the answer is to be kept, else empty.
    """

    event_prefix: str
    request_hash: bytes
    event_id: str
    amount: str
    unit: str
    asked_policy: str
    default_policy: str
    subject: bytes
    action: bytes
    metadata: bytes
    metrics: bytes
    client_time_ms: int | str
    scopes_json: bytes
    idempotency_key: str
    kept: str
    policies_known: int
    policy_count: int
    policy_until: str


class Debited(NamedTuple):
    """It is charged, now or by an earlier, identical request.

    Attributes:
        amount: what was asked for.
        scopes_json: the affected scopes, a JSON array.
        balances: see ``lua/lib/budgets.lua``.
    """

    replayed: bool
    event_id: str
    amount: int
    charged: int
    unit: str
    scopes_json: bytes
    balances: bytes
    policy: str
    in_debt: bool


class Foreign(NamedTuple):
    """The key belongs to a debit that another server made."""

    event_id: str


@from_records
def read(answer: Reply) -> Debited | Foreign | NoBudget:
    """The answer by name."""
    if answer[0] == FOREIGN:
        return Foreign(answer[1].decode())
    if answer[0] == NO_BUDGET:
        return NoBudget()
    kind, event_id, amount, charged, unit, scopes, balances, policy, debt = answer
    return Debited(
        kind == REPLAY,
        event_id.decode(),
        int(amount),
        int(charged),
        unit.decode(),
        scopes,
        balances,
        policy.decode(),
        debt != b"0",
    )
