"""How a remembered key is confirmed: by the ledger script, in the same step as the mutation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

CREDENTIAL_IN_SCRIPT = "credential_in_script"

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


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
    read; nothing was done."""


def confirms_credential(handler: _Handler) -> _Handler:
    """Marks a handler whose ledger script confirms the caller's key in the same step.

    Such an operation needs no read of the key beforehand; one that ends before its script has
    run (a bad body, say) is confirmed before the caller is told.
    """
    setattr(handler, CREDENTIAL_IN_SCRIPT, True)
    return handler
