"""Short leases on slow wires: how much longer they are made, and whether a call came in time.

A case that must reach a short lease before it lapses says nothing of the server when the wire
takes longer than the lease. So such leases grow with what calls take, the step that must come in
time is held against the clock, and a case that was too slow is begun again with longer ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cycles_conformance.values import names_in

ATTEMPTS = 4
_ROUND_TRIPS = 6
"""So many calls of usual length fit into what a lease is made longer by."""
_MORE_MS = 1500
"""The second attempt adds so much, each later one twice as much as the one before."""


class TooSlow(Exception):
    """The lease may have lapsed before the answer came."""


class Patience:
    """One attempt at a case. Safe to use from several threads once its steps run."""

    def __init__(self, usual_ms: float, attempt: int = 0) -> None:
        more: int = _MORE_MS * (2**attempt - 1)
        self.spare_ms: int = round(_ROUND_TRIPS * usual_ms) + more
        """What every stretched lease is longer by."""
        self._ends: float | None = None

    def begin(self, step: Mapping[str, Any], body: Any) -> None:
        """A request is about to be sent; its lease, if it is a stretched one, begins after this."""
        written = step.get("body", {})
        if not _is_stretched(written.get("ttl_ms")):
            return
        lease = body["ttl_ms"]
        if _is_stretched(written.get("grace_period_ms")):
            lease += body["grace_period_ms"]
        self._ends = time.monotonic() + lease / 1000

    def check(self, step: Mapping[str, Any]) -> None:
        """The answers of a step have come. Raises TooSlow if it had to be in time and was not."""
        if step.get("in_time") and self._ends is not None and time.monotonic() > self._ends:
            raise TooSlow

    def seconds(self, wait: float | Mapping[str, int]) -> float:
        """How long a step waits: so many seconds, or until a lease of so many milliseconds, as it
        was stretched, has lapsed."""
        if isinstance(wait, Mapping):
            return (wait["lease"] + self.spare_ms + wait["more"]) / 1000
        return wait


def _is_stretched(value: Any) -> bool:
    return any(name.startswith("lease:") for name in names_in(value))
