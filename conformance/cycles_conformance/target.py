"""The server under test: what it is, what it offers, and how to talk to it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cycles_conformance.breaches import Breaches
from cycles_conformance.client import Answer, Client, RunEnded, TargetLost
from cycles_conformance.planes import RUNTIME, OperationRef
from cycles_conformance.provisioners import Given, Prepared, Provisioner

if TYPE_CHECKING:
    from cycles_conformance.contract import Contract, Operation

API_KEY = "X-Cycles-API-Key"
ADMIN_KEY = "X-Admin-API-Key"
GATEWAY = (502, 503, 504)
"""What a gateway answers when the server behind it does not; the contract declares none of them."""
OPERATOR = "admin_key"
"""The runtime plane knows the operator's key."""
QUIET = "quiet"
"""Nothing else of the run writes meanwhile."""
RATE_LIMIT = "rate_limit"
"""The rate limit of the public operations may be used up."""
ALONE = (QUIET, RATE_LIMIT)
"""Cases that require one of them run when all others are done, one by one, in this order."""


@dataclass(frozen=True)
class Plane:
    """One plane of the server: where it is, and what its answers are held against."""

    client: Client
    contract: Contract


@dataclass
class Target:
    """Everything that a case needs of the run. Shared by all threads."""

    planes: Mapping[str, Plane]
    """Those that a URL was given for, by name; the runtime is always there."""
    provisioner: Provisioner
    admin_key: str | None = None
    """Secret for ``X-Admin-API-Key``, on every plane."""
    features: frozenset[str] = frozenset()
    breaches: Breaches = field(default_factory=Breaches)
    """What the answers of the cases broke."""
    not_offered: Mapping[OperationRef, str] = field(default_factory=dict)
    ended: str = ""
    """Why nothing more is asked of the server; empty while the run goes on."""
    knows_a_key: bool = False
    """Whether some provisioned key was ever answered with another status than 401."""
    _shared: Prepared | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def runtime(self) -> Plane:
        return self.planes[RUNTIME]

    def operation(self, ref: OperationRef) -> Operation:
        """Raises KeyError when its plane has no URL or its contract no such operation."""
        return self.planes[ref.plane].contract.operations[ref.operation_id]

    @property
    def usual_ms(self) -> float:
        """What a call to the runtime plane takes, as far as the run has seen."""
        return self.runtime.client.usual_ms

    def note_answer(self, status: int) -> None:
        """Of a request with a key that ought to be good. Raises TargetLost when the server has
        known none yet: then no case would tell anything."""
        if status != 401:
            # A server in trouble may not even have looked.
            self.knows_a_key |= status < 500
        elif not self.knows_a_key:
            raise TargetLost(
                f"{self.runtime.client.url} answers 401 to the first key that was made for it: "
                f"{self.provisioner.doubt}"
            )

    def end(self, why: str) -> None:
        """Let every thread that still has to do with the server raise RunEnded."""
        self.ended = why
        for plane in self.planes.values():
            plane.client.end(why)
        self._over.set()

    def pause(self, seconds: float) -> None:
        """Wait, in the middle of a case. Raises RunEnded."""
        if self._over.wait(seconds):
            raise RunEnded(self.ended)

    def close(self) -> None:
        for plane in self.planes.values():
            plane.client.close()
        self.provisioner.close()

    def prepare(self, given: Given) -> Prepared:
        """What a case needs, made now; the shared tenant only once. Raises ProvisioningError."""
        if not given.tenants:
            return Prepared({}, {})
        if not given.shared:
            return self.provisioner.prepare(given)
        with self._lock:
            if self._shared is None:
                self._shared = self.provisioner.prepare(given)
            return self._shared


def reach(client: Client) -> None:
    """Ask once, without a key. Raises TargetLost when no Cycles server can be there; one line."""
    answer = any_answer(client)
    kind = answer.headers.get("content-type", "")
    if 300 <= answer.status < 400:
        to = answer.headers.get("location", "an unknown place")
        raise TargetLost(f"{client.url} redirects to {to}: give the address that answers by itself")
    if "html" in kind:
        raise TargetLost(
            f"{client.url} answers {answer.status} with a web page ({kind}): "
            "is this the address of the API?"
        )


def any_answer(client: Client) -> Answer:
    """What a server says that is asked without a key. Raises TargetLost when none is there."""
    answer = client.send("reach", "GET", "/v1/reservations", query={"limit": 1})
    if not isinstance(answer, Answer):
        raise TargetLost(f"{client.url} cannot be reached: {answer.failure}")
    if answer.status in GATEWAY:
        raise TargetLost(
            f"{client.url} answers {answer.status}: is there no server behind its gateway?"
        )
    return answer
