"""``lua/fund.lua``: change what a budget has."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "fund"


class Keys(NamedTuple):
    budget_record: str
    funding_record: str
    reference_record: str
    reference_hash: str
    reference_budget: str


class Arguments(NamedTuple):
    scope: str
    operation: str
    amount: str
    spent: str
    request_hash: bytes
    changeover_hash: str
    only_debt: str
    names_budget: str


class Change(NamedTuple):
    """An amount before and after."""

    before: int
    after: int


class Funded(NamedTuple):
    """It is done, now or by an earlier, identical request.

    Attributes:
        at_ms: when it was done, epoch ms.
    """

    replayed: bool
    at_ms: int
    allocated: Change
    remaining: Change
    debt: Change
    spent: Change


@from_records
def read(answer: Reply) -> Funded:
    """The answer by name."""
    kind, at_ms, *amounts = answer
    changes = [
        Change(int(before), int(after))
        for before, after in zip(amounts[::2], amounts[1::2], strict=True)
    ]
    return Funded(kind == REPLAY, int(at_ms), *changes)
