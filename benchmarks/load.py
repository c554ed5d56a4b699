"""Requests a second, latency, and processor time, beside the floor's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from benchmarks.processes import WebProcess, cycles_server, floor_server
from benchmarks.report import Measure, Section
from benchmarks.run import Run, run
from benchmarks.store import Store

CLIENTS = (1, 10, 50, 64, 200)
OPERATIONS = ("commit", "release", "extend", "event", "decide")
_NEED_RESERVATIONS = ("commit", "release", "extend")
_USUAL = 50
"""Clients, where nothing else is said."""
_MOST_RATE = 20_000
"""More operations on reservations than this in a second are not expected of one worker."""

Progress = Callable[[str], None]


def measure_load(store: Store, progress: Progress, *, rounds: int, seconds: float) -> Section:
    """Reserves at rising numbers of clients, in turns with the floor; then the other operations,
    in turns with reserves."""
    section = Section("Load: one worker, three scopes")
    store.hold_rewrites()
    tenant = store.tenant
    floor_process = floor_server(store.url, tenant.name, tenant.secret, store.folder / "floor.log")
    with cycles_server(store.url, store.folder / "server.log") as server, floor_process as floor:
        for process in (server, floor):
            run(store, process, "reserve", clients=8, seconds=1)
        for clients in CLIENTS:
            progress(f"reserve, {clients} clients")
            ours, theirs = [], []
            for _ in range(rounds):
                theirs.append(_reserves(store, floor, clients, seconds))
                ours.append(_reserves(store, server, clients, seconds))
            section.measures += _reserve_measures(clients, ours, theirs)
            section.others += [one.others for one in (*ours, *theirs)]
        progress("reserve, appendfsync always")
        with store.fsync_always():
            always = [_reserves(store, server, _USUAL, seconds) for _ in range(rounds)]
        section.measures += _always_measures(always)
        runs: dict[str, list[Run]] = defaultdict(list)
        for number in range(rounds):
            for operation in ("reserve", *OPERATIONS):
                progress(f"{operation}, round {number + 1}")
                runs[operation].append(_operation(store, server, operation, seconds))
        section.measures += _operation_measures(runs)
    return section


def _reserves(store: Store, server: WebProcess, clients: int, seconds: float) -> Run:
    store.reset()
    return run(store, server, "reserve", clients=clients, seconds=seconds)


def _operation(store: Store, server: WebProcess, operation: str, seconds: float) -> Run:
    store.reset()
    ids = None
    if operation in _NEED_RESERVATIONS:
        count = int(_MOST_RATE * max(1, seconds))
        store.add_reservations(store.tenant, count)
        ids = store.folder / "ids"
        ids.write_text("".join(f"{one}\n" for one in store.newest(store.tenant, count)))
    return run(store, server, operation, clients=_USUAL, seconds=seconds, ids=ids)


def _reserve_measures(clients: int, ours: list[Run], theirs: list[Run]) -> list[Measure]:
    def measure(
        what: str,
        unit: str,
        of: Callable[[Run], float],
        target: float | None = None,
        *,
        at_least: bool = False,
        of_base: bool = False,
    ) -> Measure:
        samples, base = [of(one) for one in ours], [of(one) for one in theirs]
        name = f"reserve, {_clients(clients)}: {what}"
        return Measure(name, unit, samples, target, at_least, base, of_base)

    if clients == 64:
        rate = measure("rate", "/s", _rate, 0.7, at_least=True, of_base=True)
    else:
        rate = measure("rate", "/s", _rate, 8500 if clients == 50 else None, at_least=True)
    measures = [
        rate,
        measure("p50", "ms", lambda one: one.load.p50_ms, 0.45 if clients == 1 else None),
        measure("p99", "ms", lambda one: one.load.p99_ms, 12 if clients == 50 else None),
        measure("CPU", "µs", _cpu, 150 if clients in (50, 64) else None),
    ]
    if clients == 64:
        measures += [
            measure("CPU, server", "µs", lambda one: one.server_us),
            measure("CPU, Redis", "µs", lambda one: one.redis_us),
        ]
    return measures


def _always_measures(runs: list[Run]) -> list[Measure]:
    at = f"reserve, {_clients(_USUAL)}, fsync always"
    return [
        Measure(f"{at}: rate", "/s", [_rate(one) for one in runs]),
        Measure(f"{at}: p99", "ms", [one.load.p99_ms for one in runs]),
        Measure(f"{at}: CPU", "µs", [_cpu(one) for one in runs]),
    ]


def _operation_measures(runs: dict[str, list[Run]]) -> list[Measure]:
    """The base of an operation is the reserve."""
    reserves = runs["reserve"]
    measures = []
    for operation in OPERATIONS:
        at, ours = f"{operation}, {_clients(_USUAL)}", runs[operation]
        cpu, rate = [_cpu(one) for one in ours], [_rate(one) for one in ours]
        base = [_cpu(one) for one in reserves]
        measures += [
            Measure(f"{at}: CPU", "µs", cpu, 1.3, base=base, of_base=True),
            Measure(f"{at}: rate", "/s", rate, base=[_rate(one) for one in reserves]),
        ]
    return measures


def _clients(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"


def _rate(one: Run) -> float:
    return one.load.rate


def _cpu(one: Run) -> float:
    return one.cpu_us
