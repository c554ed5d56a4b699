"""Pages of lists and balances, with little and with much in the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlencode

from benchmarks.processes import cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import run
from benchmarks.store import Store

FEW, MANY, BYSTANDERS = 1_000, 100_000, 10_000
_MOST_RATIO = 1.5
_LONGEST_S = 2

_FEW = f"{FEW:,} reservations"
_MANY = f"{MANY:,} reservations"
_OTHERS = f"{BYSTANDERS:,} other tenants too"
_KINDS = {"p50": "ms", "CPU": "µs", "Redis": "µs"}


def measure_pages(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """Each page in three states of the store; the base of the second and third is the first."""
    section = Section(f"Pages: one client; base: {_FEW}")
    store.hold_rewrites()
    costs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with cycles_server(store.url, store.folder / "server.log") as server:
        there = 0
        for state, wanted in ((_FEW, FEW), (_MANY, MANY), (_OTHERS, MANY)):
            progress(state)
            store.add_reservations(store.tenant, wanted - there)
            there = wanted
            if state == _OTHERS:
                store.add_bystanders(BYSTANDERS)
            for _ in range(rounds):
                for page, path in _pages(store).items():
                    store.restart_statistics()
                    one = run(
                        *(store, server, "get"),
                        clients=1,
                        seconds=min(seconds, _LONGEST_S),
                        path=path,
                    )
                    costs[page, "p50", state].append(one.load.p50_ms)
                    costs[page, "CPU", state].append(one.cpu_us)
                    in_redis = store.command_micros() / one.load.requests
                    costs[page, "Redis", state].append(in_redis)
                    section.others.append(one.others)
    for page in _pages(store):
        for kind, unit in _KINDS.items():
            base = costs[page, kind, _FEW]
            for state in (_MANY, _OTHERS):
                samples = costs[page, kind, state]
                name = f"{page}, {kind}: {state}"
                section.measures.append(
                    Measure(name, unit, samples, _MOST_RATIO, base=base, of_base=True)
                )
    return section


def _pages(store: Store) -> dict[str, str]:
    """The pages, each as path and query."""
    tenant = store.tenant
    (newest,) = store.newest(tenant, 1)
    key = store.client.hget(tenant.names.reservation(newest), "idempotency_key").decode()
    return {
        "list": "/v1/reservations?limit=50",
        "list by created_at_ms": "/v1/reservations?limit=50&sort_by=created_at_ms&sort_dir=asc",
        "list by idempotency_key": "/v1/reservations?" + urlencode({"idempotency_key": key}),
        "balances": "/v1/balances?" + urlencode({"tenant": tenant.name}),
    }
