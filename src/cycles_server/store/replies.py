"""What an error that Redis answers means: for its call, and for the connection it came over."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from cycles_server.store.errors import StoreCorrupt, StoreFault, StoreRefused

ERROR_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError)
"""Errors that are a reply to one call. The last two are redis-py's ConnectionErrors too, but the
connection is whole, and the call they answer has not run."""

# redis-py strips the code of the errors that it has a class for.
_CODES: dict[type[Exception], str] = {
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}

# The node at the other end does no work at present, but the address may lead to one that does:
# after a fail-over an open connection still ends at the old master. One that its replicas have
# left may be a master for itself only.
_ELSEWHERE = frozenset({"READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "NOREPLICAS", "NOAUTH"})

# It cannot do such work at present, here or elsewhere.
_REFUSALS = _ELSEWHERE | {"OOM", "MISCONF", "BUSY", "NOPERM", "TRYAGAIN"}

# Redis finds it in a command, or in one that a script calls; a script then ends there.
_DAMAGED = "WRONGTYPE"


def code_of(error: Exception) -> str:
    """The word in capitals that the reply begins with; empty for ``ERR``, which says nothing.

    An error of a command that a script calls begins with that command's own code; one that the
    script itself makes, whatever its text, begins with ``ERR``.
    """
    known = _CODES.get(type(error))
    if known is not None:
        return known
    code = str(error).partition(" ")[0]  # redis-py strips ERR
    return code if code.isascii() and code.isalpha() and code.isupper() else ""


def is_elsewhere(error: RedisError) -> bool:
    """Whether a new connection to the same address may be served better."""
    return code_of(error) in _ELSEWHERE


def cause_of(error: Exception) -> str:
    """What failed, without the address that redis-py and Redis put into their messages."""
    kind = type(error).__name__
    code = code_of(error)
    return f"{kind}: {code}" if code else kind


def store_error(
    error: RedisError, text: str | None = None
) -> StoreRefused | StoreCorrupt | StoreFault:
    """What the caller of the answered call gets; ``text`` instead of all that Redis said."""
    text = text or f"{type(error).__name__}: {error}"
    code = code_of(error)
    if code in _REFUSALS:
        return StoreRefused(text, code)
    # A missing permission that only shows within a script has the code ERR: half of the script
    # may have run by then, so it is none of the refusals that have changed nothing.
    return StoreCorrupt(text) if code == _DAMAGED else StoreFault(text)
