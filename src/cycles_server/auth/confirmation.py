"""How a remembered key is confirmed: by the ledger script, in the same step as the mutation."""

from __future__ import annotations


class Confirmation:
    """Whether the caller's key has been confirmed in this very exchange, by a read of its records
    or by a script that found them unchanged.

    Attributes:
        done: once it is, whatever is answered is said of a confirmed key.
    """

    __slots__ = ("done",)

    def __init__(self, *, done: bool = False) -> None:
        self.done = done


class StaleCredential(Exception):
    """A ledger script found that the caller's key or tenant record has changed since it was
    read; nothing was done. Who repeats is said in ``ledger/call.py``."""
