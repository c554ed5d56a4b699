"""Many clients at once on one budget, over two servers of one store: no unit is spent twice.

The kit has such crowds at one server (``concurrency.yaml``). Here every crowd is split between two
processes, so that nothing can hold because one of them does its work in turn or remembers it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import httpx
import pytest
from support.crowd import at_once
from support.running import Running
from support.server import PATIENT, CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key

THREADS = 50
LOAD_THREADS = 8
SETTLED_SECONDS = 20
AGENTS = ("a", "b", "c")

Call = Callable[[], httpx.Response]


@pytest.fixture(scope="module")
def second(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CyclesServer]:
    """Another server process on the same store."""
    log = tmp_path_factory.mktemp("second") / "log"
    server = CyclesServer(running.store.url, log, settings=PATIENT)
    yield server
    server.stop()


@dataclass
class Crowd:
    """A tenant and its clients, one for each server."""

    tenant: Tenant
    clients: list[httpx.Client]

    def posts(self, path: str, bodies: Sequence[dict[str, Any]]) -> list[Call]:
        """One call for each body, the servers taking turns."""

        def post(client: httpx.Client, body: dict[str, Any]) -> Call:
            return lambda: client.post(path, json=body)

        return [post(client, body) for client, body in zip(cycle(self.clients), bodies)]

    def reserves(self, number: int, amount: int, **changes: Any) -> list[Call]:
        bodies = [self.tenant.reserve_body(amount, **changes) for _ in range(number)]
        return self.posts("/v1/reservations", bodies)

    def events(self, number: int, amount: int, **changes: Any) -> list[Call]:
        bodies = [event_body(self.tenant, amount, **changes) for _ in range(number)]
        return self.posts("/v1/events", bodies)

    def commits(self, ids: Sequence[str], amount: int) -> list[Call]:
        def commit(client: httpx.Client, reservation_id: str) -> Call:
            body = {"idempotency_key": new_key(), "actual": {"unit": UNIT, "amount": amount}}
            return lambda: client.post(f"/v1/reservations/{reservation_id}/commit", json=body)

        return [commit(*pair) for pair in zip(cycle(self.clients), ids)]


def event_body(tenant: Tenant, amount: int, **changes: Any) -> dict[str, Any]:
    body = tenant.reserve_body(amount, **changes)
    body["actual"] = body.pop("estimate")
    return body


@pytest.fixture
def crowd(running: Running, second: CyclesServer) -> Iterator[Crowd]:
    """A tenant whose clients speak to two servers; one is the kit's business."""
    tenant = running.tenant()
    urls = [running.url, second.url]
    headers = {"X-Cycles-API-Key": tenant.secret}
    limits = httpx.Limits(max_connections=THREADS)
    clients = [httpx.Client(base_url=u, headers=headers, timeout=30, limits=limits) for u in urls]
    for client in clients:
        # Each server looks at the key for the first time; the race is to be about money.
        assert client.get("/v1/balances", params={"tenant": tenant.name}).status_code == 200
    yield Crowd(tenant, clients)
    for client in clients:
        client.close()


def outcomes(answers: Sequence[httpx.Response]) -> dict[tuple[int, str], int]:
    """How often each status and error code came."""
    every = [error_of(answer) for answer in answers]
    return {one: every.count(one) for one in set(every)}


def assert_ledger(tenant: Tenant, scope: str | None = None, **expected: int) -> None:
    """The stored budget has these amounts, and they add up."""
    amounts = tenant.amounts(scope)
    parts = (amounts[name] for name in ("remaining", "reserved", "spent", "debt"))
    assert amounts["allocated"] == sum(parts), amounts
    assert {name: amounts[name] for name in expected} == expected


# -- one budget ------------------------------------------------------------------------------------


def test_exactly_as_many_reserves_as_the_budget_holds(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=1000)
    answers = at_once(crowd.reserves(50, 100))
    assert outcomes(answers) == {(200, ""): 10, (409, "BUDGET_EXCEEDED"): 40}
    ids = {answer.json()["reservation_id"] for answer in answers if answer.is_success}
    assert len(ids) == 10
    assert_ledger(crowd.tenant, remaining=0, reserved=1000)


def test_the_scarcest_scope_decides_whoever_asks(crowd: Crowd) -> None:
    tenant = crowd.tenant
    tenant.budget(allocated=1000)
    scopes = [tenant.budget(f"tenant:{tenant.name}/agent:{a}", allocated=450) for a in AGENTS]
    calls = [
        call
        for agent in AGENTS
        for call in crowd.reserves(15, 100, subject=tenant.subject(agent=agent))
    ]
    answers = at_once(calls)
    assert outcomes(answers) == {(200, ""): 10, (409, "BUDGET_EXCEEDED"): 35}
    assert_ledger(tenant, remaining=0, reserved=1000)
    held = [tenant.amounts(scope)["reserved"] for scope in scopes]
    assert sum(held) == 1000
    assert max(held) <= 400


def test_reserves_and_events_share_one_budget(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=1000)
    reserves = crowd.reserves(25, 70, overage_policy="REJECT")
    events = crowd.events(25, 50, overage_policy="REJECT")
    answers = at_once([call for pair in zip(reserves, events, strict=True) for call in pair])
    codes = {error_of(answer) for answer in answers}
    # On a slow machine all of one kind may come before the first of the other.
    assert (409, "BUDGET_EXCEEDED") in codes
    assert codes <= {(200, ""), (201, ""), (409, "BUDGET_EXCEEDED")}
    reserved = 70 * sum(answer.status_code == 200 for answer in answers)
    spent = 50 * sum(answer.status_code == 201 for answer in answers)
    assert 950 < reserved + spent <= 1000
    assert_ledger(crowd.tenant, reserved=reserved, spent=spent)


def test_debt_stops_at_its_limit(crowd: Crowd) -> None:
    tenant = crowd.tenant
    tenant.budget(allocated=200, overdraft_limit=500)
    policy = "ALLOW_WITH_OVERDRAFT"
    ids = [tenant.reserved(10, overage_policy=policy) for _ in range(20)]
    answers = at_once(crowd.commits(ids, 110))
    assert outcomes(answers) == {(200, ""): 5, (409, "OVERDRAFT_LIMIT_EXCEEDED"): 15}
    assert_ledger(tenant, debt=500, spent=50, reserved=150, remaining=-500)


# -- one request, many times -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/reservations", "/v1/events"])
def test_identical_requests_do_one_thing(crowd: Crowd, path: str) -> None:
    tenant = crowd.tenant
    tenant.budget(allocated=10_000)
    body = tenant.reserve_body(100)
    if path == "/v1/events":
        body = event_body(tenant, 100)
    answers = at_once(crowd.posts(path, [body] * 30))
    bodies = [answer.json() for answer in answers]
    for one in bodies:
        one.pop("remaining_ttl_ms", None)
    assert all(answer.is_success for answer in answers)
    assert all(one == bodies[0] for one in bodies)
    amounts = tenant.amounts()
    assert amounts["reserved"] + amounts["spent"] == 100
    assert_ledger(tenant, remaining=9900)


def test_a_key_used_for_two_requests_at_once_does_one_of_them(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=10_000)
    bodies = [crowd.tenant.reserve_body(n, idempotency_key="same") for n in range(1, 31)]
    answers = at_once(crowd.posts("/v1/reservations", bodies))
    assert outcomes(answers) == {(200, ""): 1, (409, "IDEMPOTENCY_MISMATCH"): 29}
    (winner,) = (answer.json() for answer in answers if answer.is_success)
    assert_ledger(crowd.tenant, reserved=winner["reserved"]["amount"])


def test_one_of_ten_commits_charges(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=1000)
    reservation = crowd.tenant.reserved(100)
    answers = at_once(crowd.commits([reservation] * 10, 80))
    assert outcomes(answers) == {(200, ""): 1, (409, "RESERVATION_FINALIZED"): 9}
    assert_ledger(crowd.tenant, spent=80, reserved=0, remaining=920)


def test_one_commit_sent_ten_times_charges_once(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=1000)
    path = f"/v1/reservations/{crowd.tenant.reserved(100)}/commit"
    body = {"idempotency_key": new_key(), "actual": {"unit": UNIT, "amount": 130}}
    answers = at_once(crowd.posts(path, [body] * 10))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert_ledger(crowd.tenant, spent=130, reserved=0, remaining=870)


def test_commit_or_release_never_both(crowd: Crowd) -> None:
    crowd.tenant.budget(allocated=1000)
    committed = 0
    for _ in range(15):
        reservation = crowd.tenant.reserved(50)
        bodies = [{"idempotency_key": new_key()} for _ in range(2)]
        releases = crowd.posts(f"/v1/reservations/{reservation}/release", bodies)
        answers = at_once([*crowd.commits([reservation] * 2, 20), *releases])
        assert outcomes(answers) == {(200, ""): 1, (409, "RESERVATION_FINALIZED"): 3}
        committed += any(answer.is_success for answer in answers[:2])
        assert_ledger(crowd.tenant, spent=20 * committed, reserved=0)


def test_commit_or_expiry_never_both(crowd: Crowd) -> None:
    """Leases that end while their commits are on the way."""
    tenant = crowd.tenant
    tenant.budget(allocated=1000)
    tenant.reserved(300)  # a hold that a return too many would take away
    ids = [tenant.reserved(10, grace_period_ms=0) for _ in range(40)]
    seconds, micros = tenant.redis.time()
    ends = int(seconds) * 1000 + int(micros) // 1000 + 250
    for place, reservation in enumerate(ids):
        tenant.redis.hset(tenant.names.reservation(reservation), "expires_at", ends + 5 * place)
        tenant.redis.zadd(tenant.names.ttl, {reservation: ends + 5 * place})
    time.sleep(0.3)
    answers = at_once(crowd.commits(ids, 7))
    assert set(outcomes(answers)) <= {(200, ""), (410, "RESERVATION_EXPIRED")}
    # A sweeper that looked just before a commit still has the reservation on its list.
    tenant.redis.zadd(tenant.names.ttl, dict.fromkeys(ids, 1))
    deadline = time.monotonic() + SETTLED_SECONDS
    while any(place is not None for place in tenant.redis.zmscore(tenant.names.ttl, ids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    spent = 7 * sum(answer.is_success for answer in answers)
    assert_ledger(tenant, reserved=300, spent=spent, remaining=700 - spent)


# -- rights that end during load -------------------------------------------------------------------


@dataclass
class Load:
    """Clients that go on and on; each call is noted with the moment at which it began."""

    crowd: Crowd
    noted: list[tuple[float, httpx.Response]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def _work(self, client: httpx.Client, place: int) -> None:
        tenant = self.crowd.tenant
        while not self._over.is_set():
            path, body = "/v1/reservations", tenant.reserve_body(1)
            if place % 2:
                path, body = "/v1/events", event_body(tenant, 1)
            began = time.monotonic()
            self.noted.append((began, client.post(path, json=body)))

    def run(self, change: Callable[[], object]) -> float:
        """Work, make the change, work on; returns the moment since when it stood."""
        threads = [
            threading.Thread(target=self._work, args=(client, place))
            for place, client in zip(range(LOAD_THREADS), cycle(self.crowd.clients))
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        change()
        since = time.monotonic()
        time.sleep(0.4)
        self._over.set()
        for thread in threads:
            thread.join()
        return since

    def check(self, since: float, refusal: tuple[int, str]) -> None:
        """Before: all succeed. After: none does. And each success is in the ledger, once."""
        answers = [answer for _, answer in self.noted]
        late = [error_of(answer) for began, answer in self.noted if began > since]
        assert late
        assert set(late) == {refusal}
        assert set(outcomes(answers)) == {(200, ""), (201, ""), refusal}
        reserved = sum(answer.status_code == 200 for answer in answers)
        spent = sum(answer.status_code == 201 for answer in answers)
        assert reserved > LOAD_THREADS
        assert_ledger(self.crowd.tenant, reserved=reserved, spent=spent)


def test_nothing_begins_once_the_tenant_is_closed(crowd: Crowd) -> None:
    crowd.tenant.record()
    crowd.tenant.budget()
    load = Load(crowd)
    since = load.run(lambda: crowd.tenant.record(status="CLOSED"))
    load.check(since, (409, "TENANT_CLOSED"))


def test_nothing_begins_once_the_tenant_is_suspended(crowd: Crowd) -> None:
    crowd.tenant.record()
    crowd.tenant.budget()
    load = Load(crowd)
    since = load.run(lambda: crowd.tenant.record(status="SUSPENDED"))
    load.check(since, (401, "UNAUTHORIZED"))


def test_nothing_begins_once_the_key_is_revoked(crowd: Crowd) -> None:
    crowd.tenant.budget()
    load = Load(crowd)
    since = load.run(lambda: crowd.tenant.write_key(status="REVOKED"))
    load.check(since, (401, "UNAUTHORIZED"))
