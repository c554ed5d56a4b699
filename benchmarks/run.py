"""One measured run: load by ``wrk``, and the processor time that it cost."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import WebProcess, cpu_seconds, machine_seconds
from benchmarks.store import Store
from benchmarks.wrk import Load, run_wrk


@dataclass(frozen=True)
class Run:
    """A run's load, and processor time for each request in microseconds.

    Attributes:
        others: the share of the machine's processors that other work took, 0 to 1. A run beside
            other work tells little.
    """

    load: Load
    server_us: float
    redis_us: float
    others: float

    @property
    def cpu_us(self) -> float:
        """Server and Redis together."""
        return self.server_us + self.redis_us


def run(
    store: Store,
    server: WebProcess,
    script: str,
    *,
    clients: int,
    seconds: float,
    path: str = "",
    pause_ms: int = 0,
    ids: Path | None = None,
) -> Run:
    """Run one of the scripts in ``wrk/`` against a server that knows the key already."""
    # A server that met the key while the store was empty verifies it anew, slowly.
    server.ask("/v1/reservations?limit=1", store.tenant.secret)
    watched = (server.pid, store.pid)
    before = [cpu_seconds(pid) for pid in watched]
    machine, children, started = machine_seconds(), _children_seconds(), time.perf_counter()
    load = run_wrk(
        script,
        server.url + path,
        secret=store.tenant.secret,
        tenant=store.tenant.name,
        clients=clients,
        seconds=seconds,
        pause_ms=pause_ms,
        ids=ids,
    )
    spent = [cpu_seconds(pid) - start for pid, start in zip(watched, before, strict=True)]
    ours = sum(spent) + _children_seconds() - children
    possible = (time.perf_counter() - started) * (os.cpu_count() or 1)
    others = (machine_seconds() - machine - ours) / possible
    return Run(
        load=load,
        server_us=spent[0] / load.requests * 1e6,
        redis_us=spent[1] / load.requests * 1e6,
        others=max(0.0, others),
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # wrk; servers count when they end
    return usage.ru_utime + usage.ru_stime
