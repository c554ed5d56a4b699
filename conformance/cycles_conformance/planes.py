"""The planes of a Cycles server: each has a base URL and a contract of its own, and two contracts
may use one operationId for different operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

RUNTIME = "runtime"
ADMIN = "admin"
PLANES = (RUNTIME, ADMIN)
URL_OPTIONS = {RUNTIME: "--url", ADMIN: "--admin-url"}
SPEC_OPTIONS = {RUNTIME: "--spec", ADMIN: "--admin-spec"}


class OperationRef(NamedTuple):
    """An operation by plane and operationId."""

    plane: str
    operation_id: str

    @property
    def name(self) -> str:
        """What a report calls it: ``operationId`` for the runtime, else ``plane.operationId``."""
        return self.operation_id if self.plane == RUNTIME else ".".join(self)


def operations_of_runtime(ids: Iterable[str]) -> frozenset[OperationRef]:
    return frozenset(OperationRef(RUNTIME, operation_id) for operation_id in ids)
