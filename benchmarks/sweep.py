"""How fast lapsed holds come back, and what a reserve waits meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import click

from benchmarks.processes import WebProcess, cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import Run, run
from benchmarks.store import Store
from benchmarks.tenant import Tenant

HOLDS = 50_000
TENANTS = 50
_INTERVAL_MS = 200
"""Between two sweeps; the server's default is 5,000, which would only add waiting."""
_SEEDED_IN_S = 12
_POLL_S = 0.01

# What else goes on: clients, and the pause of each between two requests.
_LOADS = {
    "nothing else": (0, 0),
    "1,000 reserves/s asked": (50, 50),
    "50 clients without pause": (50, 0),
}


@dataclass
class _Swept:
    rates: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    reserves: list[float] = field(default_factory=list)


def measure_sweep(store: Store, progress: Callable[[str], None], *, rounds: int) -> Section:
    """50,000 holds of one tenant, and of 50 tenants, under no, some and full load."""
    section = Section(f"Sweep: {HOLDS:,} lapsed holds over three scopes")
    store.hold_rewrites()
    lapsing = [store.add_tenant(f"lapsing-{number}") for number in range(TENANTS)]
    with cycles_server(
        store.url, store.folder / "server.log", CYCLES_EXPIRY_INTERVAL_MS=str(_INTERVAL_MS)
    ) as server:
        run(store, server, "reserve", clients=8, seconds=1)
        for whose in (lapsing[:1], lapsing):
            of = "one tenant" if len(whose) == 1 else f"{len(whose)} tenants"
            for what, (clients, pause_ms) in _LOADS.items():
                progress(f"holds of {of}, {what}")
                swept = _Swept()
                for _ in range(rounds):
                    runs = _sweep(store, server, whose, clients, pause_ms, swept)
                    section.others += [one.others for one in runs]
                at = f"{of}, {what}"
                section.measures.append(
                    Measure(f"{at}: holds back", "/s", swept.rates, 10_000, at_least=True)
                )
                if clients:
                    section.measures += [
                        Measure(f"{at}: p99 of reserves", "ms", swept.p99_ms, 50),
                        Measure(f"{at}: reserves", "/s", swept.reserves),
                    ]
    return section


def _sweep(
    store: Store,
    server: WebProcess,
    whose: Sequence[Tenant],
    clients: int,
    pause_ms: int,
    swept: _Swept,
) -> list[Run]:
    """Let holds lapse all at once and watch them go; load comes in slices of a second."""
    store.reset()
    lapse_at_ms = store.now_ms() + _SEEDED_IN_S * 1000
    for tenant in whose:
        store.add_reservations(tenant, HOLDS // len(whose), grace_ms=0, lapse_at_ms=lapse_at_ms)
    left_ms = lapse_at_ms - store.now_ms()
    if left_ms < 0:
        raise click.ClickException(f"{HOLDS:,} holds were not made in {_SEEDED_IN_S} s: too busy")
    time.sleep(left_ms / 1000)
    slices: list[Run] = []
    watch = _Watch(store, lapse_at_ms)
    with ThreadPoolExecutor(1) as thread:
        rate = thread.submit(watch.rate)
        try:
            while clients and not rate.done():
                slices.append(
                    run(store, server, "reserve", clients=clients, seconds=1, pause_ms=pause_ms)
                )
        except BaseException:
            watch.given_up = True
            raise
        swept.rates.append(rate.result())
    if any(store.held(tenant) for tenant in whose):
        raise RuntimeError("the sweep is over and budgets still hold something")
    if slices:
        swept.p99_ms.append(max(one.load.p99_ms for one in slices))
        requests = sum(one.load.requests for one in slices)
        swept.reserves.append(requests / sum(one.load.seconds for one in slices))
    return slices


class _Watch:
    """Counts what is still to be swept."""

    def __init__(self, store: Store, lapse_at_ms: int) -> None:
        self._store = store
        # Leases are granted in whole milliseconds and end around the given one.
        self._until = lapse_at_ms + 60_000
        self.given_up = False

    def rate(self) -> float:
        """Holds that come back in a second, from the first to the last; waits for the last."""
        while self._left() == HOLDS and not self.given_up:
            time.sleep(_POLL_S)
        started, at_first = time.perf_counter(), self._left()
        while self._left() > 0 and not self.given_up:
            time.sleep(_POLL_S)
        return at_first / (time.perf_counter() - started)

    def _left(self) -> int:
        left: int = self._store.client.zcount(self._store.tenant.names.ttl, "-inf", self._until)
        return left
