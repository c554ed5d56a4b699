"""How long the ledger remembers; ``lua/lib/retention.lua`` has the same."""

from __future__ import annotations

DAY_MS = 86_400_000

IDEMPOTENCY_MS = DAY_MS
"""A reserve's key, from the end of its grace."""
KEPT_MS = 30 * DAY_MS
"""The record of a reservation that is over."""
