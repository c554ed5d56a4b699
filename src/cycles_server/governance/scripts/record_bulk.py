"""``lua/record_bulk.lua``: keep what a bulk action is answered with, and leave its audit entry."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import from_records
from cycles_server.store.link import Reply

NAME = "record_bulk"


class Keys(NamedTuple):
    answer_record: str
    plan_record: str


class Arguments(NamedTuple):
    answer: bytes
    kept_ms: int


@from_records
def read(answer: Reply) -> bytes | None:
    """None where it is kept; else the one that was kept before."""
    if answer[0] == b"OK":
        return None
    _, first = answer
    return bytes(first)
