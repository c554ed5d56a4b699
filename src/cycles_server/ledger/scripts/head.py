"""``lua/lib/call.lua``: what the ledger's scripts are asked first, and what each may answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, TypeVar

from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.link import Reply

_Answer = TypeVar("_Answer")


class HeadKeys(NamedTuple):
    """The first KEYS."""

    key_record: str
    tenant_record: str


class HeadArguments(NamedTuple):
    """The first ARGV."""

    verified_key: bytes
    verified_tenant: bytes
    key_valid_until: str
    tenant: str
    tenant_guard: str


class Refused(NamedTuple):
    """Nothing was done.

    Attributes:
        code: of the contract, or what was found damaged.
        scope: the one that refuses, where one does.
    """

    code: str
    scope: str


class NoBudget(NamedTuple):
    """No scope has a budget in the asked unit."""


def of_records(read: Callable[[Reply], _Answer]) -> Callable[[Reply], _Answer]:
    """For answers that tell what a record keeps: one that cannot be read is a damaged record.

    The decorated function raises StoreCorrupt then.
    """

    @wraps(read)
    def reading(answer: Reply) -> _Answer:
        try:
            return read(answer)
        except (AttributeError, TypeError, ValueError) as error:
            raise StoreCorrupt("a first answer cannot be read from its record") from error

    return reading


NO_BUDGET = b"NO_BUDGET"
FOREIGN = b"FOREIGN"
REPLAY = b"REPLAY"


def is_stale(answer: Reply) -> bool:
    """Whether the caller's records have changed; nothing was done."""
    return bool(answer[0] == b"STALE")


def refused_in(answer: Reply) -> Refused | None:
    """The refusal in an answer, if it is one."""
    if answer[0] != b"ERROR":
        return None
    return Refused(answer[1].decode(), answer[2].decode() if len(answer) > 2 else "")
