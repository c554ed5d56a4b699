"""``lua/record_bulk.lua``: keep what a bulk action is answered with, and leave its audit entry."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "record_bulk"


class Keys(NamedTuple):
    answer_record: str


class Arguments(NamedTuple):
    answer: bytes
    kept_ms: int


def read(_: Reply) -> None:
    """It is done, and there is nothing to tell."""
