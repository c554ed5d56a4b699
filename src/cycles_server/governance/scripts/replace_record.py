"""``lua/replace_record.lua``: write a changed JSON record, unless somebody else has changed it."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "replace_record"


class Keys(NamedTuple):
    record: str
    row_record: str


class Arguments(NamedTuple):
    expected: bytes
    replacement: bytes
    row_kept_ms: int


def read(answer: Reply) -> bool:
    """Whether it is written; else it is not what was read."""
    return bool(answer[0] == b"OK")
