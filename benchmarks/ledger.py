"""What a reserve costs in Redis: time of its one thread, and memory for as long as it lives."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.processes import cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import run
from benchmarks.store import Store

RESERVATIONS = 50_000


def measure_redis(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """Time of the reserve script, called by nobody else and under load; memory of what it makes.
    The base is a script that does nothing, called with the same keys and arguments."""
    section = Section("Redis: one reserve over three scopes")
    store.hold_rewrites()
    empty, alone, loaded, bytes_each = [], [], [], []
    with cycles_server(store.url, store.folder / "server.log") as server:
        for number in range(rounds):
            progress(f"script, round {number + 1}")
            store.reset()
            store.restart_statistics()
            store.call_empty_script(RESERVATIONS)
            empty.append(store.script_micros())
            before = store.used_memory()
            store.restart_statistics()
            store.add_reservations(store.tenant, RESERVATIONS)
            alone.append(store.script_micros())
            bytes_each.append((store.used_memory() - before) / RESERVATIONS)
            store.reset()
            store.restart_statistics()
            section.others.append(run(store, server, "reserve", clients=50, seconds=seconds).others)
            loaded.append(store.script_micros())
    section.measures = [
        Measure("script, nothing else running", "µs", alone, 40, base=empty),
        Measure("script, 50 clients at the server", "µs", loaded),
        Measure("memory of a live reservation", "bytes", bytes_each, 1700),
    ]
    return section
