"""``lua/update_budget.lua``: set what a budget allows, not what it has."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.governance.ledgers import FIELDS, fields_row
from cycles_server.store.link import Argument, Reply

NAME = "update_budget"


class Keys(NamedTuple):
    budget_record: str


class Arguments(NamedTuple):
    scope: str
    overdraft_limit: str
    overage_policy: str
    metadata: bytes
    status: str

    def asking(self) -> tuple[Argument, ...]:
        """These, and the names of the fields of a ledger, which the script answers with."""
        return (*self, *FIELDS)


def read(answer: Reply) -> dict[str, str]:
    """The fields of a ledger as this change left them."""
    return fields_row(answer[1:])
