"""This checkout's server and another's, in turns on one machine and one store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import Run, run
from benchmarks.store import Store

CLIENTS = (1, 50)
_WARM_UP_S = 1


@dataclass(frozen=True)
class Checkout:
    """Another checkout of this project, and the Python that it is installed for."""

    root: Path
    python: Path


def measure_against(
    store: Store,
    progress: Callable[[str], None],
    *,
    other: Checkout,
    rounds: int,
    seconds: float,
) -> Section:
    """Reserves over three scopes; the base is the other checkout."""
    section = Section(f"Load: against {other.root}")
    store.hold_rewrites()
    for clients in CLIENTS:
        ours, theirs = list[Run](), list[Run]()
        for number in range(rounds):
            progress(f"reserve, {clients} clients, round {number + 1}")
            # Where its memory happens to lie makes a process some percent faster or slower than
            # another of the same code, for as long as it lives: each round has new ones.
            server = cycles_server(store.url, store.folder / "server.log")
            base = cycles_server(
                store.url, store.folder / "other.log", python=other.python, root=other.root
            )
            with server, base:
                for process in (server, base):
                    run(store, process, "reserve", clients=8, seconds=_WARM_UP_S)
                turns = [(server, ours), (base, theirs)]
                # Whoever is first meets another machine than who is second.
                for process, runs in turns if number % 2 else reversed(turns):
                    store.reset()
                    runs.append(run(store, process, "reserve", clients=clients, seconds=seconds))
        section.others += [one.others for one in (*ours, *theirs)]
        at = f"reserve, {clients} client{'s' if clients > 1 else ''}"
        figures: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
            ("rate", "/s", lambda one: one.load.rate),
            ("p50", "ms", lambda one: one.load.p50_ms),
            ("p99", "ms", lambda one: one.load.p99_ms),
            ("CPU", "µs", lambda one: one.cpu_us),
            ("CPU, server", "µs", lambda one: one.server_us),
            ("CPU, Redis", "µs", lambda one: one.redis_us),
        )
        section.measures += [
            Measure(f"{at}: {what}", unit, [*map(of, ours)], base=[*map(of, theirs)])
            for what, unit, of in figures
        ]
    return section
