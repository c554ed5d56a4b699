"""How long the ledger remembers; ``lua/lib/retention.lua`` has the same."""

from __future__ import annotations

from cycles_server.store.clock import DAY_MS

IDEMPOTENCY_MS = DAY_MS
"""A reserve's key, from the end of its grace."""
KEPT_MS = 30 * DAY_MS
"""The record of a reservation that is over."""
