"""The server against a model of its rules: random calls of several clients, with random acts of
governance and jumps in time between them. After each step both must give the same answer and
hold the same budgets.

``CYCLES_MODEL_EXAMPLES`` sets how many runs there are (by default few, for every commit).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support import governance as acts
from support import requests as some
from support.clients import Clients, check_answer, expect
from support.clock import CLOCK, Clock, ClockedServer, sweep
from support.mirror import UNREADABLE, Mirror
from support.redis import RedisServer
from support.requests import INT64_MAX, TENANTS, UNITS, Call, Json
from support.tenants import Tenant as Client

from model.ledger import Budget, LedgerModel, Reservation, Tenant, derive_scopes

EXAMPLES = int(os.environ.get("CYCLES_MODEL_EXAMPLES", "150"))
STEPS = 40
# Beyond ten runs Hypothesis mostly tries near copies of one it has made, which find little here.
BATCH = 10
HOUR_MS = 3_600_000
# Idempotency records live a day and more; a run ends before the first of them lapses.
LONGEST_RUN_MS = 20 * HOUR_MS
NOBODY = "00000000-0000-4000-8000-000000000000"

SPELLINGS = ("plain", "reordered", "spaced", "fractions")

Draw = Callable[..., Any]


@dataclass
class World:
    """One store and one server for all runs; each run starts from nothing but the keys."""

    store: RedisServer
    server: ClockedServer
    clients: Clients
    keys: dict[Any, Any]

    def start_over(self) -> None:
        self.store.client.flushdb()
        pipe = self.store.client.pipeline()
        for name, value in self.keys.items():
            pipe.set(name, value)
        pipe.execute()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("model")
    store = RedisServer(folder / "redis", fsync="no")
    store.may_stay = {CLOCK: "the clock that the server goes by"}
    server = ClockedServer(store.url, folder / "log", CYCLES_EXPIRY_INTERVAL_MS="3600000")
    own = {name: Client(store.client, server.url, name=name) for name in TENANTS}
    secrets = {name: [client.secret, client.new_key()] for name, client in own.items()}
    keys = {name: store.client.get(name) for name in store.client.keys("apikey:*")}
    clients = Clients(server.url, secrets)
    yield World(store, server, clients, keys)
    clients.close()
    server.stop()
    store.stop()


def _own_ids(machine: Ledgers) -> st.SearchStrategy[str]:
    active = [r.reservation_id for r in machine.active()]
    every = list(machine.model.reservations)
    weighted = [(5, active or every), (3, every), (1, [NOBODY])]
    return some.weighted(*((weight, st.sampled_from(ids)) for weight, ids in weighted if ids))


own_ids = st.runner().flatmap(_own_ids)
"""A reservation of this run, mostly one that is still ACTIVE."""


class Ledgers(RuleBasedStateMachine):
    """One run: the model, the store, and what the clients remember."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.start_over()
        self.model = LedgerModel(now_ms=int(time.time() * 1000) + HOUR_MS)
        self.latest_ms = self.model.now_ms + LONGEST_RUN_MS
        self.clock = Clock(self.world.store.client)
        self.clock.set(self.model.now_ms)
        self.mirror = Mirror(self.world.store.client, self.model, TENANTS)
        self.calls: list[Call] = []
        self.remembered: dict[tuple[str, str, str, str], tuple[Call, str]] = {}
        self.operator_releases = 0
        self.agreed = True
        self.count = 0

    # -- helpers -------------------------------------------------------------------------------

    def active(self) -> list[Reservation]:
        return [r for r in self.model.reservations.values() if r.status == "ACTIVE"]

    def fresh_key(self) -> str:
        self.count += 1
        return f"key-{self.count}"

    def call(self, call: Call, spelling: str = "plain") -> httpx.Response:
        """Make a call on both sides; they must agree on the answer and on all that is stored."""
        self.agreed = False
        answer = self.world.clients.send(call, spelling)
        known = call.body and self.is_known(call)
        check_answer(call, answer, expect(self.model, call, answer))
        self.check_state()
        if answer.is_success and call.body:
            self.remembered.setdefault(call.slot, (call, answer.text))
            self.operator_releases += call.by_operator and not known
        if call.body and call not in self.calls:
            self.calls.append(call)
        return answer

    def is_known(self, call: Call) -> bool:
        reservation = self.model.reservations.get(call.target)
        return reservation is not None and reservation.release_record is not None

    def check_state(self) -> None:
        self.agreed = False
        self.model.check_invariants()
        self.mirror.check()
        self.agreed = True

    def go_to(self, now_ms: int) -> None:
        """Move the clock; never back, and not beyond what a run may last."""
        if self.model.now_ms <= now_ms <= self.latest_ms:
            self.model.now_ms = now_ms
            self.clock.set(now_ms)

    def go_to_moment(self, draw: Draw, reservation_id: str) -> None:
        """Now and then, go to the end of the lease or grace, or a millisecond beside it."""
        reservation = self.model.reservations.get(reservation_id)
        if reservation is not None and draw(some.mostly(False, True)):
            ends = (reservation.expires_at_ms, reservation.settle_until_ms)
            self.go_to(draw(st.sampled_from(ends)) + draw(st.sampled_from((-1, 0, 0, 1))))

    def chosen_amount(self, choice: tuple[str, int], budgets: list[Budget], estimate: int) -> int:
        """An amount as such, or one beside what is held, left, or may be owed."""
        kind, number = choice
        left = [budget.remaining for budget in budgets]
        lendable = [b.overdraft_limit - b.debt for b in budgets if b.overdraft_limit]
        if kind != "plain":
            number += estimate
        if kind == "left" and left:
            number += min(left)
        elif kind == "most" and left:
            number += max(left)
        elif kind == "limit" and lendable:
            number += max(min(left), min(lendable))
        return min(max(number, 0), INT64_MAX)

    def budgets(self, scopes: list[str], unit: str) -> list[Budget]:
        found = [self.model.budgets.get((scope, unit)) for scope in scopes]
        return [budget for budget in found if budget is not None]

    # -- steps ---------------------------------------------------------------------------------

    # One rule for all: Hypothesis switches rules off at random in each run, and half of a
    # lifecycle shows little.
    @rule(data=st.data(), step=some.steps)
    def step(self, data: st.DataObject, step: str) -> None:
        if not self.model.reservations and step in ("settle", "sweep"):
            step = "spend"
        getattr(self, step)(data.draw)

    def spend(self, draw: Draw) -> None:
        operation = draw(st.sampled_from(("reserve",) * 5 + ("event", "event", "decide")))
        member = "actual" if operation == "event" else "estimate"
        tenant = draw(some.tenants)
        body: Json = draw(some.spending_bodies(tenant, self.fresh_key(), member))
        unit = body[member]["unit"]
        scopes = derive_scopes(body["subject"])
        amount = self.chosen_amount(draw(some.asked_amounts), self.budgets(scopes, unit), 0)
        body[member] = {"unit": unit, "amount": amount}
        if operation == "reserve":
            body |= draw(some.reserve_members())
        elif operation == "event":
            body |= draw(some.event_members())
        self.call(Call(operation, tenant, body))

    def settle(self, draw: Draw) -> None:
        """Commit, release or extend; mostly it is the owner who does."""
        reservation_id = draw(own_ids)
        self.go_to_moment(draw, reservation_id)
        reservation = self.model.reservations.get(reservation_id)
        operation = draw(st.sampled_from(("commit", "commit", "release", "extend")))
        body: Json = draw(some.settling_bodies(self.fresh_key(), operation))
        if operation == "commit":
            unit, estimate, scopes = "TOKENS", 0, []
            if reservation is not None:
                unit, estimate = reservation.unit, reservation.estimate
                scopes = reservation.budgeted_scopes
            unit = draw(some.mostly(unit, unit, *UNITS))
            budgets = self.budgets(scopes, unit)
            amount = self.chosen_amount(draw(some.used_amounts), budgets, estimate)
            body["actual"] = {"unit": unit, "amount": amount}
        owner = TENANTS[0] if reservation is None else reservation.tenant
        tenant = draw(some.mostly(owner, owner, *TENANTS))
        by_operator = operation == "release" and draw(some.mostly(False, True))
        self.call(Call(operation, tenant, body, reservation_id, by_operator=by_operator))

    def repeat(self, draw: Draw, tenant: str = "") -> None:
        """An earlier request again: as it was, spelled otherwise, or with another body."""
        calls = [call for call in self.calls if tenant in ("", call.tenant)]
        if not calls:
            return
        call = draw(st.sampled_from(calls))
        if draw(some.weighted((3, st.just(False)), (2, st.just(True)))):
            call = replace(call, body=draw(some.changed(call)))
        self.call(call, draw(st.sampled_from(SPELLINGS)))

    def look(self, draw: Draw) -> None:
        operation = draw(st.sampled_from(("get", "get", "list", "balances")))
        tenant = draw(some.tenants)
        if operation == "get":
            target = draw(own_ids)
            by_operator = draw(some.mostly(False, True))
            self.call(Call("get", tenant, target=target, by_operator=by_operator))
        else:
            filters = draw(some.filters(tenant, operation))
            self.call(Call(operation, tenant, filters=filters))

    def sweep(self, draw: Draw) -> None:
        """Have the expiry sweeper do its round."""
        self.go_to_moment(draw, draw(own_ids))
        self.agreed = False
        assert sweep(self.world.store.url) == len(self.model.sweep())
        self.check_state()

    def wait(self, draw: Draw) -> None:
        self.go_to(self.model.now_ms + draw(st.sampled_from((1, 1000, 60_000, HOUR_MS))))

    # -- governance ----------------------------------------------------------------------------

    @initialize(data=st.data(), number=st.integers(1, 6))
    def begin(self, data: st.DataObject, number: int) -> None:
        for fields in data.draw(acts.first_budgets()):
            self.put_budget(**fields)
        for tenant in TENANTS:
            self.put_record(tenant, data.draw(acts.tenant_records(None, "ACTIVE")))
        for _ in range(number):
            self.create(data.draw)

    def create(self, draw: Draw) -> None:
        """A new budget, or one made anew."""
        try:
            self.put_budget(**draw(acts.budgets()), sparse=draw(st.booleans()))
        except ValueError:
            return  # its sums would leave int64
        self.check_state()

    def put_budget(self, scope: str, unit: str, sparse: bool = False, **fields: Any) -> None:
        self.model.put_budget(scope, unit, **fields)
        self.mirror.put_budget(scope, unit, sparse=sparse)

    def govern(self, draw: Draw) -> None:
        """Change a budget, often one that holds something."""
        model = self.model
        if not model.budgets:
            return
        held = [name for name, budget in model.budgets.items() if budget.reserved]
        name = draw(st.sampled_from(held if held and draw(st.booleans()) else list(model.budgets)))
        scope, unit = name
        budget = model.budgets[name]
        act = draw(acts.acts)
        if act == "fund":
            model.fund(scope, unit, draw(acts.fundings), draw(some.amounts), draw(some.small))
        elif act == "change":
            model.budgets[name] = replace(budget, **draw(acts.changes))
        elif act == "freeze":
            model.freeze(scope, unit)
        elif act == "unfreeze":
            model.unfreeze(scope, unit)
        elif act == "close":
            model.close_budget(scope, unit)
        else:
            model.delete_budget(scope, unit)
        if act == "renew":
            model.put_budget(scope, unit, budget.allocated, tenant_id=budget.tenant_id)
        self.mirror.put_budget(scope, unit)
        self.check_state()

    def register(self, draw: Draw) -> None:
        """Change a tenant's record; the server still remembers the one before, and what is asked
        again meets the new one. Mostly the old one comes back then.
        """
        tenant = draw(some.tenants)
        before = self.model.tenants.get(tenant)
        states = (None, "ACTIVE", "SUSPENDED", "CLOSED", "CLOSED", "UNREADABLE")
        self.put_record(tenant, draw(acts.tenant_records(*states)), draw(st.integers(0, 4)))
        for _ in range(2):
            self.repeat(draw, tenant)
        if draw(some.mostly(True, False)):
            self.put_record(tenant, before)

    def put_record(self, tenant: str, record: Tenant | None, kind: int = 0) -> None:
        self.model.tenants.pop(tenant, None)
        if record is not None:
            self.model.put_tenant(tenant, record)
        self.mirror.put_tenant(tenant, UNREADABLE[kind])

    # -- the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Every success still has its answer, and the ledger is the model's."""
        if not self.agreed:
            return  # said already
        self.check_state()
        for tenant in TENANTS:
            self.put_record(tenant, None)
        for call, first in list(self.remembered.values()):
            again = self.call(call).text
            assert _without_ttl(again) == _without_ttl(first), call
        self.mirror.check_key_lives()
        assert self.world.store.client.zcard("audit:logs:_all") == self.operator_releases


def _without_ttl(text: str) -> str:
    return re.sub(r'"remaining_ttl_ms":\d+', "", text)


def test_server_and_model_agree(world: World) -> None:
    Ledgers.world = world
    for _ in range(-(-EXAMPLES // BATCH)):
        run_state_machine_as_test(
            Ledgers,
            settings=settings(
                max_examples=BATCH,
                stateful_step_count=STEPS,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
