"""``lua/create_budget.lua``: write a budget that does not exist yet."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import from_records
from cycles_server.store.link import Reply

NAME = "create_budget"


class Keys(NamedTuple):
    budget_record: str
    tenant_budgets: str
    tenant_budgets_twin: str


class Arguments(NamedTuple):
    ledger_id: str
    scope: str
    unit: str
    allocated: str
    overdraft_limit: str
    overage_policy: str
    rollover_policy: str
    period_start: str
    period_end: str
    metadata: bytes


class Created(NamedTuple):
    """It is new, since that epoch ms."""

    at_ms: int


class Exists(NamedTuple):
    """It was there before, and is as it was; amounts as they are stored."""

    tenant: str
    allocated: str
    remaining: str


@from_records
def read(answer: Reply) -> Created | Exists:
    """The answer by name."""
    if answer[0] == b"CREATED":
        return Created(int(answer[1]))
    _, tenant, allocated, remaining = (part.decode(errors="replace") for part in answer)
    return Exists(tenant, allocated, remaining)
