"""Start to ready, and resident memory: fresh, and after a million requests."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.processes import cycles_server, resident_mb
from benchmarks.report import Measure, Section
from benchmarks.run import run
from benchmarks.store import Store

_SLICE_S = 10


def measure_footprint(
    store: Store, progress: Callable[[str], None], *, rounds: int, requests: int
) -> Section:
    """One worker; ``requests`` reserves in slices, the store emptied between them."""
    section = Section("Footprint: one worker")
    ready, fresh = [], []
    for number in range(max(rounds, 3)):
        progress(f"start {number + 1}")
        with cycles_server(store.url, store.folder / "server.log") as server:
            ready.append(server.ready_after_s)
            run(store, server, "reserve", clients=1, seconds=1)
            fresh.append(resident_mb(server.pid))
    with cycles_server(store.url, store.folder / "server.log") as server:
        done = 0
        while done < requests:
            progress(f"{done:,} of {requests:,} requests, {resident_mb(server.pid):.0f} MB")
            store.reset()
            slice_ = run(store, server, "reserve", clients=50, seconds=_SLICE_S)
            done += slice_.load.requests
            section.others.append(slice_.others)
        after = resident_mb(server.pid)
    section.measures = [
        Measure("start to ready", "s", ready, 2),
        Measure("resident after the first requests", "MB", fresh, 120),
        Measure(f"resident after {done:,} requests", "MB", [after], 120),
    ]
    return section
