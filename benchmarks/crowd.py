"""What newcomers wait, beside clients that are there already."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit

from benchmarks.asking import Line, ask_at_once, reserve_request
from benchmarks.processes import WebProcess, cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import run
from benchmarks.store import Store

NEWCOMERS, BUSY, ANEW = 300, 100, 200
_MOST_RATIO, _MOST_SPREAD = 4, 3
_SETTLING_S = 0.5


def measure_crowd(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """The first answers of clients that come at once; the base is the same number of requests
    over connections that are open. Then clients that connect anew for each request."""
    section = Section(f"Crowd: {NEWCOMERS} clients that connect at once")
    store.hold_rewrites()
    came: dict[str, list[float]] = defaultdict(list)
    were: dict[str, list[float]] = defaultdict(list)
    alone, beside = "nobody else", f"beside {BUSY} busy clients"
    spread, p50, p99 = [], [], []
    with cycles_server(store.url, store.folder / "server.log") as server:
        run(store, server, "reserve", clients=8, seconds=1)
        for number in range(rounds):
            progress(f"at once, round {number + 1}")
            store.reset()
            there, new = asyncio.run(_at_once(store, server))
            were[alone].append(there)
            came[alone].append(new)
            there, new = asyncio.run(_beside(store, server, seconds, section))
            were[beside].append(there)
            came[beside].append(new)
            progress(f"anew for each request, round {number + 1}")
            store.reset()
            one = run(store, server, "reserve", clients=ANEW, seconds=1, anew=True)
            section.others.append(one.others)
            p50.append(one.load.p50_ms)
            p99.append(one.load.p99_ms)
            spread.append(one.load.p99_ms / one.load.p50_ms)
    for state in (alone, beside):
        name = f"{NEWCOMERS} at once, {state}: all have an answer"
        now, base = came[state], were[state]
        section.measures.append(Measure(name, "ms", now, _MOST_RATIO, base=base, of_base=True))
    at = f"{ANEW} clients, each request anew, first second"
    section.measures += [
        Measure(f"{at}: p50", "ms", p50),
        Measure(f"{at}: p99", "ms", p99),
        Measure(f"{at}: p99 to p50", "", spread, _MOST_SPREAD),
    ]
    return section


async def _at_once(store: Store, server: WebProcess) -> tuple[float, float]:
    """Milliseconds over connections that are open, and over new ones."""
    port = urlsplit(server.url).port
    assert port is not None
    # Made beforehand, and known to the server: what is measured is the wait.
    lines = [await Line.open(port) for _ in range(NEWCOMERS)]
    try:
        await ask_at_once(port, _requests(store), lines)
        there = await ask_at_once(port, _requests(store), lines)
        new = await ask_at_once(port, _requests(store))
    finally:
        for line in lines:
            line.close()
    return there * 1000, new * 1000


async def _beside(
    store: Store, server: WebProcess, seconds: float, section: Section
) -> tuple[float, float]:
    """The same while others ask without pause."""
    busy = asyncio.create_task(
        asyncio.to_thread(run, store, server, "reserve", clients=BUSY, seconds=max(seconds, 3))
    )
    await asyncio.sleep(_SETTLING_S)
    times = await _at_once(store, server)
    section.others.append((await busy).others)
    return times


def _requests(store: Store) -> list[bytes]:
    return [reserve_request(store.tenant) for _ in range(NEWCOMERS)]
