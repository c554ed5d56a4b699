"""What the admin plane costs: a funding beside a reserve, and a large tenant's close beside the
reserves of another."""

from __future__ import annotations

import asyncio
import time
import urllib.request
import uuid
from collections.abc import Callable

from benchmarks.asking import Times, ask_steadily, reserve_request
from benchmarks.processes import WebProcess, cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import busy_elsewhere, run
from benchmarks.store import Store
from benchmarks.tenant import UNIT

OPERATOR = "benchmark-operator"
BUDGETS, HOLDS = 9_000, 10_000
_MOST_RATIO = 1.3
_RATE_PER_S = 200
_CHUNK = 1_000
_LONGEST_S = 120


def measure_funding(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """A CREDIT by the operator; the base is a reserve over three scopes on the runtime plane."""
    section = Section("Funding: one CREDIT; base: a reserve over three scopes")
    store.hold_rewrites()
    costs: dict[tuple[str, int, str], list[float]] = {}
    key = {"ADMIN_API_KEY": OPERATOR}
    log = store.folder / "server.log"
    with (
        cycles_server(store.url, log) as runtime,
        cycles_server(store.url, log, plane="admin", **key) as admin,
    ):
        for number in range(rounds):
            for clients in (1, 50):
                for what, server in (("fund", admin), ("reserve", runtime)):
                    progress(f"{what}, {clients} clients, round {number + 1}")
                    store.reset()
                    store.restart_statistics()
                    operator_key = OPERATOR if what == "fund" else ""
                    one = run(
                        *(store, server, what),
                        clients=clients,
                        seconds=seconds,
                        operator_key=operator_key,
                    )
                    for kind, value in (
                        ("CPU", one.cpu_us),
                        ("script", store.script_micros()),
                        ("p50", one.load.p50_ms * 1000),
                    ):
                        costs.setdefault((what, clients, kind), []).append(value)
                    section.others.append(one.others)
    for clients in (1, 50):
        for kind in ("CPU", "script", "p50"):
            section.measures.append(
                Measure(
                    f"{clients} clients, {kind}",
                    "µs",
                    costs["fund", clients, kind],
                    _MOST_RATIO,
                    base=costs["reserve", clients, kind],
                    of_base=True,
                )
            )
    return section


def measure_close(store: Store, progress: Callable[[str], None], *, rounds: int) -> Section:
    """A tenant with 9,000 budgets and 10,000 holds is closed; another reserves meanwhile."""
    section = Section(f"Close: {BUDGETS:,} budgets and {HOLDS:,} holds; another tenant reserves")
    store.hold_rewrites()
    took, waited, quiet = [], [], []
    key = {"ADMIN_API_KEY": OPERATOR}
    log = store.folder / "server.log"
    with (
        cycles_server(store.url, log) as runtime,
        cycles_server(store.url, log, plane="admin", **key) as admin,
    ):
        for number in range(rounds):
            progress(f"round {number + 1}")
            store.reset()
            name = f"closing-{number}"
            owner = store.add_tenant(name)
            store.add_reservations(owner, HOLDS)
            _add_budgets(store, name)
            runtime.ask("/v1/reservations?limit=1", store.tenant.secret)
            with busy_elsewhere((runtime.pid, admin.pid, store.pid), section.others):
                quiet.append(asyncio.run(_reserving(store, runtime, seconds=3)).p99)
                seconds, times = asyncio.run(_closing(store, runtime, admin, name))
            took.append(seconds)
            waited.append(times.p99)
            if times.failed or store.held(owner):
                raise RuntimeError(f"{times.failed} reserves failed, {store.held(owner)} held")
    section.measures = [
        Measure("until nothing of it is left", "s", took),
        Measure(f"p99 of {_RATE_PER_S} reserves/s meanwhile", "ms", waited, 50, base=quiet),
    ]
    return section


async def _reserving(store: Store, runtime: WebProcess, *, seconds: float) -> Times:
    return await ask_steadily(
        _port(runtime),
        lambda: reserve_request(store.tenant),
        every_s=1 / _RATE_PER_S,
        seconds=seconds,
    )


async def _closing(
    store: Store, runtime: WebProcess, admin: WebProcess, name: str
) -> tuple[float, Times]:
    """Seconds that the close takes, and the reserves from its beginning to a second behind it."""
    reserving = asyncio.create_task(_reserving(store, runtime, seconds=4))
    started = time.perf_counter()
    await asyncio.to_thread(_close, admin, name)
    while store.client.hexists(store.keys.tenant(name).closings, name):
        if time.perf_counter() - started > _LONGEST_S:
            raise RuntimeError("the close does not come to its end")
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - started
    return seconds, await reserving


def _close(admin: WebProcess, name: str) -> None:
    request = urllib.request.Request(
        f"{admin.url}/v1/admin/tenants/{name}",
        method="PATCH",
        data=b'{"status":"CLOSED"}',
        headers={"X-Admin-API-Key": OPERATOR, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_LONGEST_S) as answer:
        answer.read()


def _port(server: WebProcess) -> int:
    return int(server.url.rpartition(":")[2])


def _add_budgets(store: Store, name: str) -> None:
    names = store.keys.tenant(name)
    for first in range(0, BUDGETS, _CHUNK):
        pipeline = store.client.pipeline(transaction=False)
        for number in range(first, min(first + _CHUNK, BUDGETS)):
            scope = f"tenant:{name}/agent:n{number:05d}"
            key = names.budget(scope, UNIT)
            amounts = dict.fromkeys(("reserved", "spent", "debt", "overdraft_limit"), 0)
            row = {"ledger_id": str(uuid.uuid4()), "tenant_id": name, "scope": scope, "unit": UNIT}
            row |= {"allocated": 1000, "remaining": 1000, "status": "ACTIVE", **amounts}
            pipeline.hset(key, mapping=row)
            pipeline.sadd(names.budgets, key)
        pipeline.execute()
