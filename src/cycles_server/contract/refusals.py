"""From what the domain refuses, and from how the store fails, to what is sent: the one place."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from cycles_server.http.exchange import Exchange
from cycles_server.http.problems import SERVER_FAILED, Headers, Problem
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt, StoreError, StoreFault, StoreRefused

logger = logging.getLogger(__name__)

_CONFLICT = 409
_TOO_MANY = 429

STORE_RETRY_S = 1
"""What a client is told to wait when the store is away."""


def problem_of(
    error: Problem | Refusal | StoreError, exchange: Exchange, statuses: Mapping[str, int]
) -> Problem:
    """The problem that an exchange ends in; a failure of the store is logged on the way.

    Args:
        statuses: the status of each error code, as the plane's contract has it.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, Refusal):
        status = _status(error, statuses)
        return Problem(
            error.code,
            error.message,
            details=error.details,
            status=status,
            headers=_waiting_headers(status, error.retry_after_s),
        )
    what, message, retry_after_s = _store_failure(error)
    logger.error("%s: %s", what, error, extra=exchange.ids)
    refusal = Refusal("INTERNAL_ERROR", message, retry_after_s=retry_after_s)
    return problem_of(refusal, exchange, statuses)


def _status(refusal: Refusal, statuses: Mapping[str, int]) -> int:
    if refusal.conflict:
        return _CONFLICT
    if refusal.code == "LIMIT_EXCEEDED" and refusal.retry_after_s is not None:
        return _TOO_MANY
    return statuses[refusal.code]


def _store_failure(error: StoreError) -> tuple[str, str, int | None]:
    """What the log says, what the client is told, and when it may try again."""
    if isinstance(error, StoreCorrupt):
        message = "A stored record that this request needs is damaged"
        return "stored record unusable", message, None
    if isinstance(error, StoreFault):
        return "a call to the store is wrong", SERVER_FAILED, None
    # The contract declares no 503.
    if isinstance(error, StoreRefused):
        message = "The budget store cannot take this now; nothing was changed"
        return "store refused", message, STORE_RETRY_S
    message = (
        "The budget store did not answer in time; repeat the same request, "
        "with the idempotency key that it had"
    )
    return "store failed", message, STORE_RETRY_S


def _waiting_headers(status: int, seconds: int | None) -> Headers:
    if seconds is None:
        return ()
    headers: Headers = (("retry-after", str(seconds)),)
    if status == 429:
        headers += (("x-ratelimit-reset", str(int(time.time()) + seconds)),)
    return headers
