"""The server under test: what it is, what it offers, and how to talk to it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from cycles_conformance.client import Answer, Client, TargetLost
from cycles_conformance.contract import Contract
from cycles_conformance.provision import Given, Plug, Prepared

API_KEY = "X-Cycles-API-Key"
ADMIN_KEY = "X-Admin-API-Key"
LAST_FEATURE = "throttle"
"""Cases that use up a rate limit run when all others are done, one after the other."""


@dataclass
class Target:
    """Everything that a case needs of the run. Shared by all threads."""

    client: Client
    contract: Contract
    plug: Plug
    runtime_admin_key: str | None = None
    """Secret for ``X-Admin-API-Key`` on the runtime plane."""
    features: frozenset[str] = frozenset()
    not_offered: Mapping[str, str] = field(default_factory=dict)
    _shared: Prepared | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, given: Given) -> Prepared:
        """What a case needs, made now; the shared tenant only once. Raises ProvisioningError."""
        if not given.shared:
            return self.plug.prepare(given)
        with self._lock:
            if self._shared is None:
                self._shared = self.plug.prepare(given)
            return self._shared


def reach(client: Client) -> None:
    """Ask once, without a key. Raises TargetLost when no Cycles server can be there; one line."""
    answer = client.send("reach", "GET", "/v1/reservations")
    if not isinstance(answer, Answer):
        raise TargetLost(f"{client.url} cannot be reached: {answer.failure}")
    kind = answer.headers.get("content-type", "")
    if 300 <= answer.status < 400:
        to = answer.headers.get("location", "an unknown place")
        raise TargetLost(f"{client.url} redirects to {to}: give the address that answers by itself")
    if "html" in kind:
        raise TargetLost(
            f"{client.url} answers {answer.status} with a web page ({kind}): "
            "is this the address of the API?"
        )
