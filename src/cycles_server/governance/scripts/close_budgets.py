"""``lua/close_budgets.lua``: close some of a closed tenant's budgets.

The cascade's; it acts for no caller, so there is no head.
"""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import Refused, refused_in
from cycles_server.store.link import Reply

NAME = "close_budgets"

CLOSED = "CLOSED"


class Keys(NamedTuple):
    """Behind them the budgets."""

    tenant_record: str
    audit_of_tenant: str
    audit_of_all: str


class Arguments(NamedTuple):
    """Behind them the budgets' scopes."""

    tenant: str
    audit_prefix: str
    audit_members: bytes
    audit_kept_ms: int


def read(answer: Reply) -> list[str] | Refused:
    """What became of each, one word each."""
    return refused_in(answer) or [outcome.decode() for outcome in answer]
