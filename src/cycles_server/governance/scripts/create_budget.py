"""``lua/create_budget.lua``: write a budget that does not exist yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NAME = "create_budget"


class Keys(NamedTuple):
    budget_record: str
    tenant_budgets: str


class Arguments(NamedTuple):
    tenant: str
    ledger_id: str
    scope: str
    unit: str
    allocated: str
    overdraft_limit: str
    overage_policy: str


class Created(NamedTuple):
    """It is new."""


class Exists(NamedTuple):
    """It was there before, and is as it was; amounts as they are stored."""

    tenant: str
    allocated: str
    remaining: str


def read(answer: Sequence[str]) -> Created | Exists:
    """The answer by name."""
    if answer[0] == "CREATED":
        return Created()
    _, tenant, allocated, remaining = answer
    return Exists(tenant, allocated, remaining)
