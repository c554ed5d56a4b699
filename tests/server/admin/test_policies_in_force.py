"""What a policy does to the calls that it governs, on two servers of the runtime plane."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from support.operator import Operator
from support.redis import RedisServer
from support.running import Running
from support.server import PATIENT, CyclesServer
from support.tenants import UNIT, Tenant, error_of

PATH = "/v1/admin/policies"
CAPS: dict[str, Any] = {"max_tokens": 100, "tool_allowlist": []}
OF_BUDGET = {"max_steps_remaining": 3}
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def second(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CyclesServer]:
    server = CyclesServer(store.url, tmp_path_factory.mktemp("second") / "log", settings=PATIENT)
    yield server
    server.stop()


@dataclass
class Governed:
    """A tenant with a budget, whose calls go to each of the servers in turn."""

    operator: Operator
    urls: list[str]
    tenant: Tenant = field(init=False)

    def __post_init__(self) -> None:
        self.tenant = self.operator.tenant()
        self.tenant.budget(allocated=1_000_000)
        self._turns = itertools.cycle(self.urls)

    @property
    def root(self) -> str:
        return f"tenant:{self.tenant.name}"

    def policy(self, pattern: str = "{}/*", **members: Any) -> Answer:
        """A new policy; ``{}`` stands for the tenant's scope."""
        body = {
            "tenant_id": self.tenant.name,
            "name": uuid.uuid4().hex,
            "scope_pattern": pattern.format(self.root),
            **members,
        }
        made = self.operator.http.post(PATH, json=body)
        assert made.status_code == 201, made.text
        policy: Answer = made.json()
        return policy

    def update(self, policy: Answer, **members: Any) -> None:
        answer = self.operator.http.patch(f"{PATH}/{policy['policy_id']}", json=members)
        assert answer.status_code == 200, answer.text

    def write(self, record: Answer) -> None:
        """Write a policy's record as the reference's admin service does."""
        names = self.tenant.names
        self.operator.redis.set(names.policy(record["policy_id"]), json.dumps(record))
        self.operator.redis.sadd(names.policies, record["policy_id"])

    def written(self, pattern: str = "{}/app:*", **members: Any) -> Answer:
        record = {
            "policy_id": f"pol_{uuid.uuid4()}"[:20],
            "scope_pattern": pattern.format(self.root),
            "status": "ACTIVE",
            "created_at": "2026-01-02T03:04:05.805550324Z",
            "name": "p1",
            "priority": 0,
            **members,
        }
        self.write(record)
        return record

    def post(self, path: str, body: Answer) -> httpx.Response:
        headers = {"X-Cycles-API-Key": self.tenant.secret}
        return httpx.post(next(self._turns) + path, json=body, headers=headers, timeout=30)

    def body(self, amount: int = 10, /, **levels: str) -> Answer:
        return self.tenant.reserve_body(amount, subject=self.tenant.subject(**levels))

    def asked(self, path: str, body: Answer) -> Answer:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        told: Answer = answer.json()
        return told

    def reserved(self, /, more: Answer | None = None, **levels: str) -> Answer:
        return self.asked("/v1/reservations", {**self.body(**levels), **(more or {})})

    def everywhere(self, **levels: str) -> Answer | None:
        """The caps of a reserve, a dry run and a decide on each server: the same for all."""
        told = []
        for _ in self.urls:  # an odd number of calls: each kind comes to each server
            told.append(self.reserved(**levels))
            told.append(self.reserved({"dry_run": True}, **levels))
            told.append(self.asked("/v1/decide", self.body(**levels)))
        caps: list[Answer | None] = [answer.get("caps") for answer in told]
        assert all(one == caps[0] for one in caps), caps
        decision = "ALLOW_WITH_CAPS" if caps[0] is not None else "ALLOW"
        assert {answer["decision"] for answer in told} == {decision}
        return caps[0]

    def kept(self, answer: Answer) -> dict[str, str]:
        row = self.operator.redis.hgetall(self.tenant.names.reservation(answer["reservation_id"]))
        return {name.decode(): value.decode() for name, value in row.items()}


@pytest.fixture
def governed(operator: Operator, running: Running, second: CyclesServer) -> Governed:
    return Governed(operator, [running.url, second.url])


# -- in force with the very next call -------------------------------------------------------------


def test_each_change_is_in_force_at_once(governed: Governed) -> None:
    assert governed.everywhere(app="chat") is None
    policy = governed.policy(caps=CAPS)
    assert governed.everywhere(app="chat") == CAPS
    governed.update(policy, caps={"max_tokens": 7})
    assert governed.everywhere(app="chat") == {"max_tokens": 7}
    governed.update(policy, status="DISABLED")
    assert governed.everywhere(app="chat") is None
    governed.update(policy, status="ACTIVE")
    other = governed.policy(caps=CAPS, priority=1)
    assert governed.everywhere(app="chat") == CAPS
    governed.update(policy, priority=2)
    assert governed.everywhere(app="chat") == {"max_tokens": 7}
    governed.update(other, priority=3)
    assert governed.everywhere(app="chat") == CAPS


def test_what_the_reference_writes_is_in_force_at_once(governed: Governed) -> None:
    assert governed.everywhere(app="chat") is None
    record = governed.written(caps={**CAPS, "max_steps_remaining": None})
    assert governed.everywhere(app="chat") == CAPS
    assert governed.everywhere(app="chat", agent="a") == CAPS
    assert governed.everywhere(agent="a") is None
    governed.write({**record, "caps": {"max_tokens": 7}})
    assert governed.everywhere(app="chat") == {"max_tokens": 7}
    governed.write({**record, "status": "DISABLED"})
    assert governed.everywhere(app="chat") is None
    upper = governed.written("{}/workspace:ENG", caps=CAPS)
    assert governed.everywhere(workspace="eng") == CAPS
    governed.operator.redis.delete(governed.tenant.names.policy(upper["policy_id"]))
    assert governed.everywhere(workspace="eng") is None
    governed.write(upper)
    assert governed.everywhere(workspace="eng") == CAPS


def test_it_holds_in_its_time(governed: Governed) -> None:
    redis = governed.operator.redis

    def clock() -> int:
        seconds, micros = redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def instant(ms: int) -> str:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000))
        return f"{text}.{ms % 1000:03d}Z"

    begin = clock() + 1_500
    end = begin + 1_500
    governed.policy(caps=CAPS, effective_from=instant(begin), effective_until=instant(end))
    seen = set()
    while clock() < end + 500:
        before = clock()
        caps = governed.reserved(app="chat").get("caps")
        after = clock()
        if before >= begin and after < end:
            assert caps == CAPS
            seen.add("in")
        elif after < begin or before >= end:
            assert caps is None
            seen.add("early" if after < begin else "late")
    assert seen == {"early", "in", "late"}


def test_updates_while_others_reserve(governed: Governed) -> None:
    policy = governed.policy(caps={"max_tokens": 0})
    caps: list[Answer | None] = []
    done = threading.Event()

    def reserve() -> None:
        while not done.is_set():
            caps.append(governed.reserved(app="chat").get("caps"))

    threads = [threading.Thread(target=reserve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 30):
        governed.update(policy, caps={"max_tokens": number})
        assert governed.everywhere(app="chat") == {"max_tokens": number}
    done.set()
    for thread in threads:
        thread.join()
    assert {one["max_tokens"] for one in caps if one} <= set(range(30))
    assert None not in caps


def test_replays_keep_their_first_answer(governed: Governed) -> None:
    policy = governed.policy(caps=CAPS, reservation_ttl_override={"default_ttl_ms": 40_000})
    bodies = {
        "/v1/reservations": governed.body(app="chat"),
        "/v1/decide": governed.body(app="chat"),
    }
    first = {path: governed.asked(path, body) for path, body in bodies.items()}
    governed.update(policy, caps={}, reservation_ttl_override={"default_ttl_ms": 2_000})
    for path, body in bodies.items():
        for _ in governed.urls:
            again = governed.asked(path, body)
            assert again["caps"] == CAPS
            assert again.get("expires_at_ms") == first[path].get("expires_at_ms")
    governed.operator.redis.set(governed.tenant.names.policy(policy["policy_id"]), "{")
    assert error_of(governed.post("/v1/decide", governed.body(app="chat")))[0] == 500


# -- which one governs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "levels", "governs"),
    [
        ("{}", {}, True),
        ("{}", {"agent": "a"}, True),
        ("{}/*", {}, False),
        ("{}/*", {"workspace": "w", "agent": "a"}, True),
        ("{}/agent:*", {"agent": "A", "toolset": "t"}, True),
        ("{}/agent:*", {"workspace": "w", "agent": "a"}, False),
        ("agent:*", {"workspace": "w", "agent": "a"}, True),
        ("*/agent:a", {"workspace": "w", "agent": "A"}, True),
        ("*/agent:a", {"workspace": "w", "agent": "b"}, False),
    ],
)
def test_the_scopes_that_it_matches(
    governed: Governed, pattern: str, levels: dict[str, str], governs: bool
) -> None:
    governed.policy(pattern, caps=CAPS)
    assert governed.everywhere(**levels) == (CAPS if governs else None)


def test_a_subject_without_its_tenant_is_the_tenants(governed: Governed) -> None:
    governed.tenant.budget(f"agent:{governed.tenant.name}")
    governed.policy("{}/agent:*", caps=CAPS)
    body = {**governed.body(), "subject": {"agent": governed.tenant.name}}
    for _ in governed.urls:
        told = governed.asked("/v1/reservations", {**body, "idempotency_key": uuid.uuid4().hex})
        assert told["caps"] == CAPS
        assert told["affected_scopes"] == [f"agent:{governed.tenant.name}"]


def test_other_tenants_policies_are_theirs(governed: Governed) -> None:
    other = Governed(governed.operator, governed.urls)
    other.policy("agent:*", caps=CAPS)
    assert governed.everywhere(agent="a") is None
    assert other.everywhere(agent="a") == CAPS


def test_the_highest_priority_governs_then_the_most_precise(governed: Governed) -> None:
    ranked = [
        ("{}/agent:a", {"priority": 5}),
        ("*/agent:a", {"priority": 4}),
        ("{}/workspace:w/agent:a", {}),
        ("{}/workspace:w/agent:*", {}),
        ("{}/workspace:w", {}),
        ("{}/workspace:w/*", {}),
        ("{}", {}),
        ("agent:*", {}),
    ]
    policies = [
        governed.policy(pattern, caps={"max_tokens": place}, **members)
        for place, (pattern, members) in reversed(list(enumerate(ranked)))
    ][::-1]
    # The first does not match this subject.
    for place, policy in list(enumerate(policies))[1:]:
        assert governed.everywhere(workspace="w", agent="a") == {"max_tokens": place}
        governed.update(policy, status="DISABLED")
    assert governed.everywhere(workspace="w", agent="a") is None
    assert governed.everywhere(agent="a") == {"max_tokens": 0}


def test_of_equals_the_smaller_id_governs(governed: Governed) -> None:
    for name in ("pol_b", "pol_a", "pol_c"):
        governed.written(
            policy_id=f"{name}{governed.tenant.name}", caps={"max_tokens": ord(name[-1])}
        )
    assert governed.everywhere(app="chat") == {"max_tokens": ord("a")}


def test_it_governs_alone(governed: Governed) -> None:
    governed.policy(caps=CAPS, reservation_ttl_override={"default_ttl_ms": 7_000})
    governed.policy(priority=1, commit_overage_policy="REJECT")
    told = governed.reserved(app="chat")
    assert "caps" not in told
    assert told["remaining_ttl_ms"] == 60_000
    assert governed.kept(told)["overage_policy"] == "REJECT"


def test_hundreds_of_policies(governed: Governed) -> None:
    for number in range(1_050):
        governed.written("{}/agent:a" + str(number), caps={"max_tokens": number})
    for number in (0, 499, 500, 1_049):
        assert governed.everywhere(agent=f"a{number}", toolset="t") == {"max_tokens": number}
    assert governed.everywhere(agent="a1050") is None


# -- what it says ---------------------------------------------------------------------------------


def test_whose_overage_policy_counts(governed: Governed) -> None:
    """The request's, the policy's, the budget's, the tenant's: each before those behind it."""
    tenant = governed.tenant
    tenant.record(default_commit_overage_policy="ALLOW_WITH_OVERDRAFT")
    assert governed.kept(governed.reserved(app="a"))["overage_policy"] == "ALLOW_WITH_OVERDRAFT"
    tenant.budget(allocated=1_000, commit_overage_policy="ALLOW_IF_AVAILABLE")
    assert governed.kept(governed.reserved(app="a"))["overage_policy"] == "ALLOW_IF_AVAILABLE"
    governed.policy(commit_overage_policy="REJECT")
    held = governed.reserved(app="a")
    assert governed.kept(held)["overage_policy"] == "REJECT"
    asked = governed.reserved({"overage_policy": "ALLOW_WITH_OVERDRAFT"}, app="a")
    assert governed.kept(asked)["overage_policy"] == "ALLOW_WITH_OVERDRAFT"

    actual = {"idempotency_key": "c", "actual": {"unit": UNIT, "amount": 11}}
    over = governed.post(f"/v1/reservations/{held['reservation_id']}/commit", actual)
    assert error_of(over) == (409, "BUDGET_EXCEEDED")
    event = {
        "subject": tenant.subject(app="a"),
        "action": {"kind": "llm.completion", "name": "m"},
        "actual": {"unit": UNIT, "amount": 5_000},
    }
    for number, policy in enumerate(("", "", "ALLOW_IF_AVAILABLE")):
        more = {"overage_policy": policy} if policy else {}
        told = governed.post("/v1/events", {**event, "idempotency_key": f"e{number}", **more})
        assert told.status_code == (201 if policy else 409), told.text
    outside = {**event, "idempotency_key": "f", "subject": tenant.subject()}
    assert governed.post("/v1/events", outside).status_code == 201


def test_its_caps_come_before_the_budgets(governed: Governed) -> None:
    scope = f"{governed.root}/app:a"
    governed.tenant.budget(scope, caps_json=json.dumps(OF_BUDGET))
    assert governed.everywhere(app="a") == OF_BUDGET
    policy = governed.policy(priority=1)
    assert governed.everywhere(app="a") == OF_BUDGET
    governed.update(policy, caps=CAPS)
    assert governed.everywhere(app="a") == CAPS
    governed.update(policy, caps={})
    assert governed.everywhere(app="a") is None


def test_a_refusal_tells_no_caps(governed: Governed) -> None:
    governed.policy(caps=CAPS)
    for path, more in (("/v1/decide", {}), ("/v1/reservations", {"dry_run": True})):
        told = governed.asked(path, {**governed.body(2_000_000, app="a"), **more})
        assert (told["decision"], told["reason_code"]) == ("DENY", "BUDGET_EXCEEDED")
        assert "caps" not in told


def test_leases_and_extensions(governed: Governed) -> None:
    tenant = governed.tenant
    tenant.record(
        default_reservation_ttl_ms=3_000, max_reservation_ttl_ms=5_000, max_reservation_extensions=2
    )
    asked = {"ttl_ms": 86_400_000}

    def leases() -> tuple[int, int]:
        told = [governed.reserved(app="a"), governed.reserved(asked, app="a")]
        return told[0]["remaining_ttl_ms"], told[1]["remaining_ttl_ms"]

    assert leases() == (3_000, 5_000)
    policy = governed.policy(reservation_ttl_override={"default_ttl_ms": 4_000})
    assert leases() == (4_000, 5_000)
    governed.update(policy, reservation_ttl_override={"max_ttl_ms": 40_000})
    assert leases() == (3_000, 40_000)
    governed.update(
        policy,
        reservation_ttl_override={
            "default_ttl_ms": 9_000, "max_ttl_ms": 8_000, "max_extensions": 0,
        },
    )  # fmt: skip
    assert leases() == (8_000, 8_000)
    held = governed.reserved(app="a")["reservation_id"]
    body = {"idempotency_key": "x", "extend_by_ms": 1_000}
    refused = governed.post(f"/v1/reservations/{held}/extend", body)
    assert error_of(refused) == (409, "MAX_EXTENSIONS_EXCEEDED")
    elsewhere = governed.reserved()["reservation_id"]
    assert governed.post(f"/v1/reservations/{elsewhere}/extend", body).status_code == 200


def test_reserves_are_limited_on_each_scope(governed: Governed) -> None:
    policy = governed.policy("{}/agent:*", rate_limits={"max_reservations_per_minute": 3})
    first = governed.body(agent="a")
    refused: list[httpx.Response] = []

    def asked_four_times() -> bool:
        refused.clear()
        for body in (first, *(governed.body(agent="a", toolset="t") for _ in range(3))):
            answer = governed.post("/v1/reservations", body)
            if answer.status_code == 429:
                refused.append(answer)
        return bool(refused)

    # Where a minute ends in between, the next has begun.
    assert asked_four_times() or asked_four_times()
    assert error_of(refused[0]) == (429, "LIMIT_EXCEEDED")
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert int(refused[0].headers["x-ratelimit-reset"]) > 0
    assert refused[0].headers["x-ratelimit-remaining"] == "0"
    governed.tenant.budget(f"{governed.root}/agent:b", allocated=0)
    for _ in range(3):
        over = governed.post("/v1/reservations", governed.body(agent="b"))
        assert error_of(over) in ((409, "BUDGET_EXCEEDED"), (429, "LIMIT_EXCEEDED"))
    # What is done stays done, and what holds nothing is not counted.
    assert governed.asked("/v1/reservations", first)["decision"] == "ALLOW"
    assert governed.asked("/v1/decide", governed.body(agent="a"))["decision"] == "ALLOW"
    counters = governed.operator.redis.keys(f"cycles:policyrate:{governed.tenant.name}:*")
    assert all(governed.operator.redis.pttl(key) <= 60_000 for key in counters)
    governed.update(policy, rate_limits={"max_reservations_per_minute": 1_000})
    assert governed.reserved(agent="a")["decision"] == "ALLOW"


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b'{"name":"n"}',
        b'{"scope_pattern":["agent:*"]}',
        {"status": "ENABLED"},
        {"priority": -1},
        {"priority": True},
        {"caps": {"max_tokens": -1}},
        {"caps": {"max_cost": 1}},
        {"caps": {"tool_allowlist": {}}},
        {"caps": {"tool_denylist": ["t" * 257]}},
        {"commit_overage_policy": "MAYBE"},
        {"reservation_ttl_override": {"default_ttl_ms": 0}},
        {"reservation_ttl_override": []},
        {"effective_from": "soon"},
        {"effective_until": 5},
        {"rate_limits": {"max_reservations_per_minute": 0}},
    ],
)
def test_one_that_cannot_be_read_lets_nothing_through(
    governed: Governed, damage: bytes | Answer
) -> None:
    record = governed.written()
    assert governed.everywhere(app="a") is None
    key = governed.tenant.names.policy(record["policy_id"])
    damaged = damage if isinstance(damage, bytes) else json.dumps({**record, **damage}).encode()
    governed.operator.redis.set(key, damaged)
    before = governed.tenant.amounts()
    event = {
        "idempotency_key": "e",
        "subject": governed.tenant.subject(app="a"),
        "action": {"kind": "llm.completion", "name": "m"},
        "actual": {"unit": UNIT, "amount": 5},
    }
    for _ in governed.urls:
        for path, body in (
            ("/v1/reservations", governed.body(app="a")),
            ("/v1/reservations", {**governed.body(app="a"), "dry_run": True}),
            ("/v1/decide", governed.body(app="a")),
            ("/v1/events", event),
        ):
            assert error_of(governed.post(path, body)) == (500, "INTERNAL_ERROR")
    assert governed.tenant.amounts() == before
    governed.write({**record, "caps": CAPS})
    assert governed.everywhere(app="a") == CAPS


def test_damage_concerns_what_it_may_match(governed: Governed) -> None:
    record = governed.written()
    governed.write({**record, "priority": "high"})
    assert governed.everywhere(agent="a") is None
    governed.write({**record, "priority": "high", "status": "DISABLED"})
    assert governed.everywhere(app="a") is None
    governed.written("nonsense", policy_id=f"pol_n{governed.tenant.name}")
    assert governed.everywhere(app="a") is None
    names = governed.tenant.names
    governed.operator.redis.delete(names.policies)
    governed.operator.redis.set(names.policies, "no set")
    assert error_of(governed.post("/v1/decide", governed.body()))[0] == 500
    governed.operator.redis.delete(names.policies)
    assert governed.everywhere(app="a") is None
