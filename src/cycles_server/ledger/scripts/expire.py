"""``lua/expire.lua``: give back the holds of one tenant's lapsed reservations.

The sweeper's; it acts for no caller, so there is no head.
"""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import Refused, refused_in
from cycles_server.store.link import Reply

NAME = "expire"

EXPIRED, WAITING, GONE = "EXPIRED", "WAITING", "GONE"
"""What may be answered of a reservation; anything else is why it was set aside."""


class Keys(NamedTuple):
    """Behind them the reservations."""

    expiries: str
    quarantine: str


class Arguments(NamedTuple):
    """Behind them the reservations' ids."""

    tenant: str
    budget_prefix: str


class Swept(NamedTuple):
    """What became of each reservation, one word each."""

    outcomes: list[str]


def read(answer: Reply) -> Swept | Refused:
    """The answer by name."""
    return refused_in(answer) or Swept([outcome.decode() for outcome in answer])
