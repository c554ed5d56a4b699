"""One measured run: load by ``wrk``, and the processor time that it cost."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator, Sequence
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
    anew: bool = False,
    operator_key: str = "",
) -> Run:
    """Run one of the scripts in ``wrk/`` against a server that knows the key already; see
    :func:`benchmarks.wrk.run_wrk`."""
    # A server that met the key while the store was empty verifies it anew, slowly.
    if not operator_key:
        server.ask("/v1/reservations?limit=1", store.tenant.secret)
    watched = (server.pid, store.pid)
    before = [cpu_seconds(pid) for pid in watched]
    others: list[float] = []
    with busy_elsewhere(watched, others):
        load = run_wrk(
            script,
            server.url + path,
            secret=store.tenant.secret,
            tenant=store.tenant.name,
            clients=clients,
            seconds=seconds,
            pause_ms=pause_ms,
            ids=ids,
            anew=anew,
            operator_key=operator_key,
        )
    spent = [cpu_seconds(pid) - start for pid, start in zip(watched, before, strict=True)]
    return Run(
        load=load,
        server_us=spent[0] / load.requests * 1e6,
        redis_us=spent[1] / load.requests * 1e6,
        others=others[0],
    )


@contextlib.contextmanager
def busy_elsewhere(pids: Sequence[int], into: list[float]) -> Iterator[None]:
    """Append the share of the machine's processors that went to other work meanwhile: not to these
    processes, to this one, or to its children that have ended."""

    def ours() -> float:
        here = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)  # wrk; servers when they end
        spent = here.ru_utime + here.ru_stime + children.ru_utime + children.ru_stime
        return spent + sum(cpu_seconds(pid) for pid in pids)

    before, machine, started = ours(), machine_seconds(), time.perf_counter()
    yield
    possible = (time.perf_counter() - started) * (os.cpu_count() or 1)
    into.append(max(0.0, (machine_seconds() - machine - ours() + before) / possible))
