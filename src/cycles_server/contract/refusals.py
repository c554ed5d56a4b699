"""From what the domain refuses, and from how the store fails, to what is sent: the one place."""

from __future__ import annotations

import logging
import time

from cycles_server.http.exchange import Exchange
from cycles_server.http.problems import SERVER_FAILED, STATUS_OF, Headers, Problem
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt, StoreError, StoreFault, StoreRefused

logger = logging.getLogger(__name__)

STORE_RETRY_S = 1
"""What a client is told to wait when the store is away."""


def problem_of(error: Problem | Refusal | StoreError, exchange: Exchange) -> Problem:
    """The problem that an exchange ends in; a failure of the store is logged on the way."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Refusal):
        return Problem(
            error.code, error.message, details=error.details, headers=_waiting_headers(error)
        )
    what, message, retry_after_s = _store_failure(error)
    logger.error("%s: %s", what, error, extra=exchange.ids)
    return problem_of(Refusal("INTERNAL_ERROR", message, retry_after_s=retry_after_s), exchange)


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
        "The budget store did not answer in time; repeat the request with the same idempotency key"
    )
    return "store failed", message, STORE_RETRY_S


def _waiting_headers(refusal: Refusal) -> Headers:
    seconds = refusal.retry_after_s
    if seconds is None:
        return ()
    headers: Headers = (("retry-after", str(seconds)),)
    if STATUS_OF[refusal.code] == 429:
        headers += (("x-ratelimit-reset", str(int(time.time()) + seconds)),)
    return headers
