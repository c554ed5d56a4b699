"""What the domain answers when it says no.

The ledger, the lists and governance know no HTTP: they raise a :class:`Refusal`, and the contract
layer alone turns it into a status, headers and a body (``contract/refusals.py``). The command
line and the background jobs read the same refusals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """A call that was not done, or not answered; nothing was changed.

    Attributes:
        code: one of the contract's ErrorCode.
        message: for people; names the member, scope or setting concerned.
        details: what a client needs to correct itself, as the contract shapes it for the code.
        retry_after_s: when it may be worth to ask again, in seconds; None if no time helps. A limit
            that time lifts is one on requests (429), whatever the code means otherwise.
        conflict: whether the request is good in itself and only the present state is against it,
            where the code alone does not say so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        conflict: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s
        self.conflict = conflict


def invalid(where: str, why: str) -> Refusal:
    """A request against the contract, naming the member."""
    return Refusal("INVALID_REQUEST", f"{where}: {why}" if where else why)


def forbidden(message: str) -> Refusal:
    return Refusal("FORBIDDEN", message)


def unauthorized() -> Refusal:
    """One message for every failed authentication: the reason is logged, not told."""
    return Refusal("UNAUTHORIZED", "A valid API key is required")
