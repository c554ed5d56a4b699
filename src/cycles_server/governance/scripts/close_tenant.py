"""``lua/close_tenant.lua``: turn a tenant's record CLOSED, and note that the rest is to follow."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "close_tenant"


class Keys(NamedTuple):
    closings: str
    row_record: str


class Arguments(NamedTuple):
    expected: bytes
    replacement: bytes
    origin: bytes
    row_kept_ms: int


def read(answer: Reply) -> bool:
    """Whether it is closed; else its record is not what was read."""
    return bool(answer[0] == b"OK")
