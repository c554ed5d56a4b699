"""``lua/set_budget.lua``: set a budget's allocation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NAME = "set_budget"


class Keys(NamedTuple):
    budget_record: str


class Arguments(NamedTuple):
    tenant: str
    scope: str
    allocated: str


class Set(NamedTuple):
    """It is set; the allocation before, and what remains now."""

    before: int
    remaining: int


class Refused(NamedTuple):
    """Nothing was changed. ``code``: NO_BUDGET, BUDGET_FROZEN, BUDGET_CLOSED, CORRUPT_BUDGET or
    OUT_OF_RANGE."""

    code: str


def read(answer: Sequence[str]) -> Set | Refused:
    """The answer by name."""
    if answer[0] == "ERROR":
        return Refused(answer[1])
    _, before, remaining = answer
    return Set(int(before), int(remaining))
