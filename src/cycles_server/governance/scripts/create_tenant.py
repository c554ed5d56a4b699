"""``lua/create_tenant.lua``: write a tenant's record, unless there is one."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import from_records
from cycles_server.store.link import Reply

NAME = "create_tenant"


class Keys(NamedTuple):
    tenants: str
    tenants_twin: str


class Arguments(NamedTuple):
    record: bytes
    apart: str


class Created(NamedTuple):
    """It is new."""


class Exists(NamedTuple):
    """It was there before, and is as it was."""

    record: bytes


@from_records
def read(answer: Reply) -> Created | Exists:
    """The answer by name."""
    if answer[0] == b"CREATED":
        return Created()
    _, record = answer
    return Exists(record)
