"""``lua/lib/call.lua``: what the ledger's scripts are asked first, and what each may answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, TypeVar

from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.link import Reply

_T = TypeVar("_T")


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


NO_BUDGET = b"NO_BUDGET"
FOREIGN = b"FOREIGN"
REPLAY = b"REPLAY"


def from_records(read: Callable[[Reply], _T]) -> Callable[[Reply], _T]:
    """A ``read`` that gives types to what records hold: what it stumbles over is damage there.

    Raises (the function that is returned):
        StoreCorrupt: a field is not there, or not what it should be. It names what was found, so
            that a fault of ours would show.
    """

    @wraps(read)
    def checked(answer: Reply) -> _T:
        try:
            return read(answer)
        except (AttributeError, TypeError, ValueError) as error:
            script = read.__module__.rpartition(".")[2]
            raise StoreCorrupt(f"what {script} answers cannot be read: {error!r}") from error

    return checked


def is_stale(answer: Reply) -> bool:
    """Whether the caller's records have changed; nothing was done."""
    return bool(answer[0] == b"STALE")


def refused_in(answer: Reply) -> Refused | None:
    """The refusal in an answer, if it is one."""
    if answer[0] != b"ERROR":
        return None
    return Refused(answer[1].decode(), answer[2].decode() if len(answer) > 2 else "")
