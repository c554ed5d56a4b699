"""``lua/update_budget.lua``: set what a budget allows, not what it has."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "update_budget"


class Keys(NamedTuple):
    budget_record: str


class Arguments(NamedTuple):
    scope: str
    overdraft_limit: str
    overage_policy: str
    metadata: bytes
    status: str


def read(_: Reply) -> None:
    """It is done, and there is nothing to tell."""
