"""Budgets that are funded while agents spend from them, and closed under their hands.

Whatever the order, three things hold: each budget's books balance, each change of an allocation is
explained by one funding, and nothing is left held when the tenant is closed.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.crowd import at_once
from support.operator import Operator
from support.running import Running, StartServer
from support.server import PATIENT, CyclesServer
from support.tenants import UNIT, Tenant, new_key

ALLOCATED = 100_000
AGENTS = ("a", "b", "c")
OPERATIONS = ("CREDIT", "DEBIT", "RESET", "RESET_SPENT", "REPAY_DEBT")


class Books:
    """A tenant, what is done to it on both planes, and what its books must say."""

    def __init__(self, operator: Operator, running: Running, seed: int) -> None:
        self.operator = operator
        self.tenant: Tenant = operator.tenant()
        self.runtime = httpx.Client(
            base_url=running.url, headers=self.tenant.http.headers, timeout=30
        )
        self.belows = ["", *(f"/agent:{name}" for name in AGENTS)]
        for below in self.belows:
            limit = {"unit": UNIT, "amount": 5_000}
            operator.budget(self.tenant, ALLOCATED, below, overdraft_limit=limit)
        self.fundings: dict[str, list[dict[str, Any]]] = {below: [] for below in self.belows}
        self.unexpected: list[str] = []
        self._seed = seed
        self._stop = threading.Event()

    def run(self, acts: int) -> None:
        """Agents and funders, each through a number of acts."""
        work = [
            *(partial(self._spend, acts, index, name) for index, name in enumerate(AGENTS * 2)),
            *(partial(self._fund, acts, 100 + index) for index in range(3)),
        ]
        at_once(work)

    def _spend(self, acts: int, index: int, name: str) -> None:
        chance = random.Random(self._seed + index)
        live: list[str] = []
        subject = self.tenant.subject(agent=name)
        action = {"kind": "llm.completion", "name": "m"}
        for _ in range(acts):
            amount = {"unit": UNIT, "amount": chance.randrange(1, 3_000)}
            policy = chance.choice(("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT"))
            body: dict[str, Any] = {"idempotency_key": new_key()}
            kind = chance.choice(("reserve", "commit", "release", "event"))
            if kind == "event":
                body |= {"subject": subject, "action": action, "overage_policy": policy}
                self._note(self.runtime.post("/v1/events", json=body | {"actual": amount}))
            elif kind == "reserve" or not live:
                body |= {"subject": subject, "action": action, "overage_policy": policy}
                held = self.runtime.post("/v1/reservations", json=body | {"estimate": amount})
                self._note(held)
                if held.status_code == 200:
                    live.append(held.json()["reservation_id"])
            else:
                one = live.pop(chance.randrange(len(live)))
                if kind == "commit":
                    body["actual"] = amount
                self._note(self.runtime.post(f"/v1/reservations/{one}/{kind}", json=body))

    def _fund(self, acts: int, index: int) -> None:
        chance = random.Random(self._seed + index)
        for _ in range(acts):
            below = chance.choice(self.belows)
            operation = chance.choice(OPERATIONS)
            reset = operation.startswith("RESET")
            amount = chance.randrange(50_000, 200_000) if reset else chance.randrange(0, 4_000)
            more: dict[str, Any] = {"idempotency_key": new_key()}
            first = self.operator.fund(self.tenant, operation, amount, below=below, **more)
            # A retry is the same call: it is told the same, and done once.
            again = self.operator.fund(self.tenant, operation, amount, below=below, **more)
            self._note(first)
            if first.status_code == 200:
                if again.content != first.content:
                    self.unexpected.append(again.text)
                self.fundings[below].append(first.json())

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code not in (200, 201, 401, 409, 410):
            self.unexpected.append(answer.text)

    def check(self) -> None:
        assert self.unexpected == []
        for below in self.belows:
            amounts = self.tenant.amounts(f"tenant:{self.tenant.name}{below}")
            parts = sum(amounts[name] for name in ("remaining", "reserved", "spent", "debt"))
            assert amounts["allocated"] == parts, (below, amounts)
            entered = Counter([ALLOCATED])
            left = Counter([amounts["allocated"]])
            for funding in self.fundings[below]:
                left[funding["previous_allocated"]["amount"]] += 1
                entered[funding["new_allocated"]["amount"]] += 1
            assert entered == left, below
        done = sum(len(fundings) for fundings in self.fundings.values())
        told = [one["operation"] for one in self.operator.audit(self.tenant.name)]
        assert told.count("fundBudget") >= done > 0


@pytest.fixture
def planes(start: StartServer, tmp_path: Path) -> Iterator[tuple[Operator, Running]]:
    running = start(**PATIENT)
    admin = CyclesServer(
        running.store.url, tmp_path / "admin.log", arguments=("admin",), settings=PATIENT
    )
    operator = Operator(running.redis, admin.url)
    yield operator, running
    operator.http.close()
    admin.stop()


@pytest.mark.parametrize("seed", range(3))
def test_the_books_balance_whatever_the_order(planes: tuple[Operator, Running], seed: int) -> None:
    books = Books(*planes, seed * 1000)
    books.run(acts=25)
    books.runtime.close()
    books.check()


def test_a_tenant_is_closed_in_the_midst_of_it(planes: tuple[Operator, Running]) -> None:
    operator, _ = planes
    books = Books(*planes, 7)
    working = threading.Thread(target=books.run, args=(25,))
    working.start()
    while sum(len(fundings) for fundings in books.fundings.values()) < 10:
        working.join(0.01)
    path = f"/v1/admin/tenants/{books.tenant.name}"
    assert operator.http.patch(path, json={"status": "CLOSED"}).status_code == 200
    working.join()
    books.runtime.close()
    books.check()
    for below in books.belows:
        stored = books.tenant.stored_budget(f"tenant:{books.tenant.name}{below}")
        assert (stored["status"], stored["reserved"]) == ("CLOSED", "0")
    names, redis = books.tenant.names, books.tenant.redis
    states = {
        redis.hget(names.reservation(one.decode()), "state")
        for one in redis.zrange(names.index, 0, -1)
    }
    assert b"ACTIVE" not in states
