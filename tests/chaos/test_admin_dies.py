"""The admin plane is killed in the midst of every operation, and started again.

Whoever asks repeats what got no answer. Afterwards each change has one audit entry and each entry
its change, the books balance, and no close or bulk action is left half done.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from support.operator import Operator
from support.running import StartServer
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, new_key

TENANTS = 5
DEATHS = 8
LONG_S = 600
"""Beyond all deaths together on a slow machine: each costs a start, and little is done between."""
SETTINGS = {"TENANT_CLOSE_RECONCILER_INTERVAL_MS": "500"}


class Insisting:
    """An operator whose requests are sent until they are answered."""

    def __init__(self, operator: Operator, seed: int) -> None:
        self.operator = operator
        self.chance = random.Random(seed)
        self.failed: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        deadline = time.monotonic() + LONG_S
        while True:
            try:
                answer = self.operator.http.request(
                    method, f"/v1{path}", json=body, params=query, timeout=30
                )
            except httpx.TransportError:
                assert time.monotonic() < deadline, "no answer any more"
                time.sleep(0.02)
                continue
            if answer.status_code >= 500:
                # The store may be asked to wait; anything else would show in the end.
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.05)
                continue
            if answer.status_code not in (200, 201, 409):
                self.failed.append(answer.text)
            return answer

    def live(self, name: str) -> None:
        """A tenant's whole life."""
        scope = f"tenant:{name}"
        self.ask("POST", "/admin/tenants", {"tenant_id": name, "name": name})
        for below in ("", "/agent:a", "/agent:b"):
            amount = {"unit": UNIT, "amount": 1000}
            body = {"tenant_id": name, "scope": scope + below, "unit": UNIT, "allocated": amount}
            self.ask("POST", "/admin/budgets", body)
        made = self.ask("POST", "/admin/api-keys", {"tenant_id": name, "name": "k"}).json()
        policy = {"tenant_id": name, "name": "p", "scope_pattern": f"{scope}/*"}
        self.ask("POST", "/admin/policies", policy)
        for number in range(8):
            funding = {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": 1}}
            funding["idempotency_key"] = new_key()
            below = self.chance.choice(("", "/agent:a", "/agent:b"))
            self.ask(
                *("POST", "/admin/budgets/fund", funding),
                tenant_id=name,
                scope=scope + below,
                unit=UNIT,
            )
            budget = {"scope": scope + below, "unit": UNIT}
            if number % 4 == 1:
                self.ask("POST", "/admin/budgets/freeze", {}, **budget)
                self.ask("POST", "/admin/budgets/unfreeze", {}, **budget)
            if number % 4 == 3:
                self.ask("PATCH", f"/admin/tenants/{name}", {"metadata": {"n": str(number)}})
        bulk = {"action": "CREDIT", "amount": {"unit": UNIT, "amount": 100}}
        bulk |= {"filter": {"tenant_id": name}, "idempotency_key": new_key()}
        rows = self.ask("POST", "/admin/budgets/bulk-action", bulk).json()["succeeded"]
        if len(rows) != 3:
            self.failed.append(f"a bulk action reached {len(rows)} of 3 budgets")
        self.ask("PATCH", f"/admin/api-keys/{made['key_id']}", {"name": "new"})
        self.ask("DELETE", f"/admin/api-keys/{made['key_id']}")


def test_every_operation_survives_the_death_of_its_server(
    start: StartServer, tmp_path: Path
) -> None:
    running = start()  # the runtime plane goes on all the time
    admin = CyclesServer(
        running.store.url, tmp_path / "admin.log", arguments=("admin",), settings=SETTINGS
    )
    operator = Operator(running.redis, admin.url)
    names = [f"t-{uuid.uuid4().hex[:10]}" for _ in range(TENANTS)]
    crew = [Insisting(operator, seed) for seed in range(TENANTS)]
    chance = random.Random(11)
    done = threading.Event()

    def kill() -> None:
        for _ in range(DEATHS):
            time.sleep(chance.uniform(0.05, 0.6))
            if done.is_set():
                return
            admin.kill()
            admin.start()

    killer = threading.Thread(target=kill)
    lives = [
        threading.Thread(target=one.live, args=(name,))
        for one, name in zip(crew, names, strict=True)
    ]
    for thread in (killer, *lives):
        thread.start()
    for thread in lives:
        thread.join()
    done.set()
    killer.join()  # else two would start the server at the same time
    tenants = [Tenant(running.redis, running.url, name=name) for name in names]
    for tenant in tenants[:3]:
        for _ in range(20):
            tenant.reserved(1, subject=tenant.subject(agent="a"))
    closing = [
        threading.Thread(
            target=one.ask, args=("PATCH", f"/admin/tenants/{name}", {"status": "CLOSED"})
        )
        for one, name in zip(crew[:3], names[:3], strict=True)
    ]
    for thread in closing:
        thread.start()
    time.sleep(0.02)
    admin.kill()
    admin.start()
    for thread in closing:
        thread.join()

    assert [text for one in crew for text in one.failed] == []
    for tenant in tenants:
        check(operator, tenant)
    for tenant in tenants[:3]:
        check_closed(operator, tenant)
    operator.http.close()
    for tenant in tenants:
        tenant.http.close()
    admin.stop()


def check(operator: Operator, tenant: Tenant) -> None:
    """Each change has its entry, and each entry its change."""
    redis, names = operator.redis, tenant.names
    told = Counter(
        entry["operation"] for entry in operator.audit(tenant.name) if entry["status"] < 300
    )
    assert told["createTenant"] == 1
    assert told["createBudget"] == redis.scard(names.budgets) == 3
    # A lost answer of a creation without idempotency key may leave a second key, never half a one.
    own = {one for one in redis.smembers(names.api_keys()) if one.decode() != tenant.key_id}
    assert told["createApiKey"] == len(own) >= 1
    assert all(redis.exists(names.api_key(one.decode())) for one in own)
    assert told["createPolicy"] == redis.scard(names.policies) == 1
    assert told["bulkActionBudgets"] == 1
    budgets = [
        tenant.amounts(f"tenant:{tenant.name}{below}") for below in ("", "/agent:a", "/agent:b")
    ]
    allocated = sum(one["allocated"] for one in budgets)
    assert allocated == 3 * 1000 + told["fundBudget"] + 3 * 100
    assert told["fundBudget"] == 8
    for one in budgets:
        parts = sum(one[name] for name in ("remaining", "reserved", "spent", "debt"))
        assert one["allocated"] == parts


def check_closed(operator: Operator, tenant: Tenant) -> None:
    redis, names = operator.redis, tenant.names
    deadline = time.monotonic() + 60
    while redis.hexists(names.closings, tenant.name):
        assert time.monotonic() < deadline, "the close does not come to its end"
        time.sleep(0.05)
    told = Counter(
        (entry["operation"], entry["resource_id"])
        for entry in operator.audit(tenant.name)
        if entry["operation"].endswith("_via_tenant_cascade")
    )
    assert set(told.values()) == {1}, "something is told of twice"
    kinds = Counter(kind for kind, _ in told)
    assert kinds["budget.closed_via_tenant_cascade"] == 3
    assert kinds["reservation.released_via_tenant_cascade"] == 20
    for one in redis.smembers(names.api_keys()):
        record = json.loads(redis.get(names.api_key(one.decode())))
        assert record["status"] == "REVOKED"
