"""What a script's answer says before its own words: refused, or out of date."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, TypeVar

from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.link import Reply

_T = TypeVar("_T")

REPLAY = b"REPLAY"


class Refused(NamedTuple):
    """Nothing was done.

    Attributes:
        code: of the contract, or what was found damaged.
        scope: the one that refuses, where one does.
    """

    code: str
    scope: str


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
