"""Pages of the admin plane's lists, with few and with many rows in the store."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlencode

import orjson
from redis.client import Pipeline

from benchmarks.processes import WebProcess, cycles_server
from benchmarks.report import Measure, Section
from benchmarks.run import run
from benchmarks.store import Store
from benchmarks.tenant import UNIT

FEW, MANY = 1_000, 100_000
_MOST_RATIO = 1.5
_LONGEST_S = 2
_CHUNK = 1_000
_OPERATOR = "benchmark-operator"
_KINDS = {"p50": "ms", "CPU": "µs", "Redis": "µs"}
_MADE = {"status": "ACTIVE", "created_at": "2026-01-01T00:00:00Z"}


def measure_admin_pages(
    store: Store, progress: Callable[[str], None], *, rounds: int, seconds: float
) -> Section:
    """Each page with many rows of every kind; the base is the same page with few."""
    section = Section(f"Admin pages: one client, {MANY:,} rows of each kind; base: {FEW:,}")
    store.hold_rewrites()
    costs: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    whole: dict[tuple[str, int], list[float]] = defaultdict(list)
    key = {"ADMIN_API_KEY": _OPERATOR}
    with cycles_server(store.url, store.folder / "server.log", plane="admin", **key) as server:
        for there, wanted in ((0, FEW), (FEW, MANY)):
            progress(f"{wanted:,} rows")
            _add_rows(store, there, wanted)
            for page, path in _pages(store).items():
                whole[f"{page}, when another server has added rows", wanted].append(
                    _took_ms(server, path)
                )
            for _ in range(rounds):
                for page, path in _pages(store).items():
                    store.restart_statistics()
                    one = run(
                        *(store, server, "get"),
                        clients=1,
                        seconds=min(seconds, _LONGEST_S),
                        path=path,
                        operator_key=_OPERATOR,
                    )
                    costs[page, "p50", wanted].append(one.load.p50_ms)
                    costs[page, "CPU", wanted].append(one.cpu_us)
                    in_redis = store.command_micros() / one.load.requests
                    costs[page, "Redis", wanted].append(in_redis)
                    section.others.append(one.others)
                for page, path in _searches(store).items():
                    whole[page, wanted].append(_took_ms(server, path))
    for page in _pages(store):
        for kind, unit in _KINDS.items():
            many, few = (costs[page, kind, rows] for rows in (MANY, FEW))
            section.measures.append(
                Measure(f"{page}, {kind}", unit, many, _MOST_RATIO, base=few, of_base=True)
            )
    for page in dict.fromkeys(page for page, _ in whole):
        section.measures.append(Measure(page, "ms", whole[page, MANY], base=whole[page, FEW]))
    return section


def _pages(store: Store) -> dict[str, str]:
    """The pages in their lists' own order, each as path and query."""
    of_tenant = urlencode({"tenant_id": store.tenant.name, "limit": 50})
    prefix = urlencode({"scope_prefix": f"tenant:{store.tenant.name}/agent:n00077"})
    return {
        "tenants": "/v1/admin/tenants?limit=50",
        "budgets of all": "/v1/admin/budgets?limit=50",
        "budgets of a tenant": f"/v1/admin/budgets?{of_tenant}",
        "budgets below a scope": f"/v1/admin/budgets?{of_tenant}&{prefix}",
        "keys of a tenant": f"/v1/admin/api-keys?{of_tenant}",
        "policies of a tenant": f"/v1/admin/policies?{of_tenant}",
    }


def _searches(store: Store) -> dict[str, str]:
    """Pages that all rows have to be looked at for."""
    of_tenant = urlencode({"tenant_id": store.tenant.name, "limit": 50})
    return {
        "budgets by utilization": f"/v1/admin/budgets?{of_tenant}&sort_by=utilization",
        "search among budgets": f"/v1/admin/budgets?{of_tenant}&search=nowhere",
        "tenants by name": "/v1/admin/tenants?limit=50&sort_by=name",
        "keys by creation": f"/v1/admin/api-keys?{of_tenant}&sort_by=created_at",
    }


def _took_ms(server: WebProcess, path: str) -> float:
    started = time.perf_counter()
    server.ask(path, operator_key=_OPERATOR)
    return (time.perf_counter() - started) * 1000


def _add_rows(store: Store, there: int, wanted: int) -> None:
    """Tenants, and budgets, keys and policies of one of them, as another server writes them."""
    for first in range(there, wanted, _CHUNK):
        pipeline = store.client.pipeline(transaction=False)
        for number in range(first, min(first + _CHUNK, wanted)):
            _add_row(store, pipeline, f"n{number:05d}", number)
        pipeline.execute()


def _add_row(store: Store, pipeline: Pipeline, name: str, number: int) -> None:
    names = store.tenant.names
    tenant = {**_MADE, "tenant_id": name, "name": name}
    pipeline.set(store.keys.tenant(name).record, orjson.dumps(tenant))
    pipeline.sadd(store.keys.tenants, name)
    key = {
        **_MADE,
        "key_id": f"key_{name}",
        "tenant_id": names.tenant,
        "key_prefix": "cyc_live_Abcde",
        "expires_at": "2999-01-01T00:00:00Z",
    }
    pipeline.set(names.api_key(f"key_{name}"), orjson.dumps(key))
    pipeline.sadd(names.api_keys(), f"key_{name}")
    policy = {**_MADE, "policy_id": f"pol_{name}", "scope_pattern": f"agent:{name}"}
    pipeline.set(names.policy(f"pol_{name}"), orjson.dumps(policy))
    pipeline.sadd(names.policies, f"pol_{name}")
    scope = f"tenant:{names.tenant}/agent:{name}"
    budget = {
        "ledger_id": str(uuid.uuid4()),
        "tenant_id": names.tenant,
        "scope": scope,
        "unit": UNIT,
        "allocated": 1_000,
        "remaining": 1_000 - number % 1_000,
        "spent": number % 1_000,
        "reserved": 0,
        "debt": 0,
        "overdraft_limit": 0,
        "is_over_limit": "false",
        "status": "ACTIVE",
        "created_at": 1_760_000_000_000,
    }
    pipeline.hset(names.budget(scope, UNIT), mapping=budget)
    pipeline.sadd(names.budgets, names.budget(scope, UNIT))
