"""How a remembered key is confirmed: by the ledger script, in the same step as the mutation."""

from __future__ import annotations


class StaleCredential(Exception):
    """A ledger script found that the caller's key or tenant record has changed since it was
    read; nothing was done."""
