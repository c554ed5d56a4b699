"""``lua/release_all.lua``: release some of a closed tenant's reservations.

The cascade's; it acts for no caller, so there is no head.
"""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import Refused, refused_in
from cycles_server.store.link import Reply

NAME = "release_all"

RELEASED, DAMAGED = "RELEASED", "DAMAGED"


class Keys(NamedTuple):
    """Behind them the reservations."""

    tenant_record: str
    expiries: str
    audit_of_tenant: str
    audit_of_all: str


class Arguments(NamedTuple):
    """Behind them the reservations' ids."""

    tenant: str
    budget_prefix: str
    audit_prefix: str
    audit_members: bytes
    audit_kept_ms: int


def read(answer: Reply) -> list[str] | Refused:
    """What became of each, one word each."""
    return refused_in(answer) or [outcome.decode() for outcome in answer]
