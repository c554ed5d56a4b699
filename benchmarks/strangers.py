"""What others wait for while strangers do their worst."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.asking import LIVENESS, Line, Times, ask_steadily, reserve_request
from benchmarks.processes import ROOT, WebProcess, cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import busy_elsewhere
from benchmarks.store import Store
from benchmarks.tenant import Tenant

_LIVENESS_MS, _RESERVE_MS = 100, 50
_LIVENESS_EVERY_S, _RESERVE_EVERY_S = 0.1, 0.02
_SETTLING_S = 2.0
"""From the start of the strangers to the first figure, and from their end to the next ones."""
_OPERATOR = "benchmark-operator"
_LARGE, _LARGE_BYTES = 200, 1_000_000


@dataclass(frozen=True)
class _Attack:
    """A kind of ``tests/hostile``, how many of it at a time, and the longest rest of each."""

    kind: str
    count: int
    pause_s: float = 0.5


_ATTACKS = {
    "quiet": None,
    "3,000 silent": _Attack("silent", 3000),
    "300 that drip a head": _Attack("dripped-head", 300),
    "50 that leave pages unread": _Attack("unread", 50),
    "20 with huge heads": _Attack("long-head", 20),
    "8 with 1 MiB of junk, half with a key": _Attack("junk-json", 8),
    "2 that page through 200 MB": _Attack("large-pages", 2),
}
_HUNG = "Redis hangs"


def measure_strangers(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """Times of liveness and of another tenant's reserves, under one attack after the other."""
    section = Section("Strangers: one worker, and what others wait")
    store.hold_rewrites()
    attacker = store.add_tenant("stranger", with_key=True)
    lived: dict[str, list[Times]] = defaultdict(list)
    reserved: dict[str, list[Times]] = defaultdict(list)
    with cycles_server(store.url, store.folder / "server.log", ADMIN_API_KEY=_OPERATOR) as server:
        server.ask("/v1/reservations?limit=1", store.tenant.secret)
        server.ask("/v1/reservations?limit=1", attacker.secret)
        for name, attack in _ATTACKS.items():
            if attack and attack.kind == "large-pages":
                progress("reservations with much metadata")
                asyncio.run(_fill(_port(server), attacker))
            for number in range(rounds):
                progress(f"{name}, round {number + 1}")
                with (
                    _attacked(server, attack, attacker) as pids,
                    busy_elsewhere((server.pid, store.pid, *pids), section.others),
                ):
                    live, reserve = asyncio.run(_ask(server, store.tenant, seconds))
                lived[name].append(live)
                reserved[name].append(reserve)
        for number in range(rounds):
            progress(f"{_HUNG}, round {number + 1}")
            os.kill(store.pid, signal.SIGSTOP)
            try:
                lived[_HUNG].append(asyncio.run(_ask_liveness(server, seconds)))
            finally:
                os.kill(store.pid, signal.SIGCONT)
    for name, all_lived in lived.items():
        section.measures += _measures(name, "liveness", all_lived, _LIVENESS_MS)
        if name in reserved:
            section.measures += _measures(name, "reserve", reserved[name], _RESERVE_MS)
    return section


def _measures(name: str, what: str, times: list[Times], target: float) -> list[Measure]:
    at = f"{name}: {what}"
    answered = [one for one in times if one.taken]
    measures = [Measure(f"{at}, not answered", "", [float(one.failed) for one in times], 0)]
    if answered:
        most_target = target if what == "liveness" else None
        measures = [
            Measure(f"{at}, p99", "ms", [one.p99 for one in answered], target),
            Measure(f"{at}, max", "ms", [one.most for one in answered], most_target),
            *measures,
        ]
    return measures


async def _ask(server: WebProcess, tenant: Tenant, seconds: float) -> tuple[Times, Times]:
    return await asyncio.gather(
        _ask_liveness(server, seconds),
        ask_steadily(
            _port(server),
            lambda: reserve_request(tenant),
            every_s=_RESERVE_EVERY_S,
            seconds=seconds,
        ),
    )


async def _ask_liveness(server: WebProcess, seconds: float) -> Times:
    """As an orchestrator does, over a new connection each time."""
    return await ask_steadily(
        _port(server), lambda: LIVENESS, every_s=_LIVENESS_EVERY_S, seconds=seconds, fresh=True
    )


async def _fill(port: int, tenant: Tenant) -> None:
    line = await Line.open(port)
    for _ in range(_LARGE):
        if await line.ask(reserve_request(tenant, metadata="x" * _LARGE_BYTES)) != 200:
            raise RuntimeError("a reserve with much metadata was refused")
    line.close()


@contextlib.contextmanager
def _attacked(server: WebProcess, attack: _Attack | None, tenant: Tenant) -> Iterator[list[int]]:
    """Strangers in a process of their own, whose pid this gives."""
    if attack is None:
        yield []
        return
    command = [
        *(sys.executable, "-m", "hostile", attack.kind, "--port", str(_port(server))),
        *("--count", str(attack.count), "--pause", str(attack.pause_s)),
    ]
    keys = {"CYCLES_API_KEY": tenant.secret, "ADMIN_API_KEY": _OPERATOR}
    process = subprocess.Popen(command, cwd=ROOT / "tests", env={**os.environ, **keys})
    try:
        time.sleep(_SETTLING_S)
        if process.poll() is not None:
            raise RuntimeError(f"the strangers have left: {attack.kind}")
        yield [process.pid]
    finally:
        process.kill()
        process.wait()
        time.sleep(_SETTLING_S)


def _port(server: WebProcess) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port
