"""Handing a store back, or sharing it: the reference finds the first answers that we gave.

Each scenario is lived twice, on two tenants alike: over HTTP on this server, and as the reference
writes it. What the reference replays from must then be the same on both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.reference import Exchange, ReferenceTenant, new_tenant
from support.running import Running, StartServer
from support.tenants import UNIT, error_of, new_key

Json = dict[str, Any]

SETTING = "CYCLES_REFERENCE_REPLAYS"
CAPS = {"max_tokens": 100, "tool_allowlist": [], "tool_denylist": ['a/b "c"']}
OVERDRAFT = "ALLOW_WITH_OVERDRAFT"
TOLERANCE_MS = 10_000

OURS = re.compile(
    r"request_hash|lease_ms|(reserve|commit|release|event)_balances|(commit|release)_request_hash"
    r"|extend:.*"
)
"""Fields that no server but this one writes."""
NOT_REPLAYED = re.compile(
    # The reference's hashes, which it looks at only where they are there; an extension's metadata.
    r"committed_payload_hash|released_payload_hash|extend_metadata_json"
)


class Here:
    """The calls of :class:`ReferenceTenant`, made on this server over HTTP."""

    def __init__(self, tenant: ReferenceTenant) -> None:
        self._tenant = tenant

    def _call(self, path: str, request: Json) -> Exchange:
        answer = self._tenant.http.post(path, json=request)
        assert answer.is_success, answer.text
        body = answer.json()
        one = body.get("reservation_id") or body.get("event_id") or path.split("/")[3:4]
        return Exchange(path, request, answer.status_code, body, "".join(one))

    def was_reserved(self, amount: int = 100, /, **changes: Any) -> Exchange:
        return self._call("/v1/reservations", self._tenant.reserve_body(amount, **changes))

    def was_committed(
        self,
        reserved: Exchange,
        actual: int,
        /,
        *,
        charged: int = 0,
        debt: int = 0,
        over_limit: bool = False,
        **changes: Any,
    ) -> Exchange:
        amount = {"unit": reserved.answer["reserved"]["unit"], "amount": actual}
        request = {"idempotency_key": new_key(), "actual": amount, **changes}
        return self._call(f"/v1/reservations/{reserved.id}/commit", request)

    def was_released(self, reserved: Exchange, /, **changes: Any) -> Exchange:
        request = {"idempotency_key": new_key(), **changes}
        return self._call(f"/v1/reservations/{reserved.id}/release", request)

    def was_extended(self, reserved: Exchange, by_ms: int, /, **changes: Any) -> Exchange:
        request = {"idempotency_key": new_key(), "extend_by_ms": by_ms, **changes}
        return self._call(f"/v1/reservations/{reserved.id}/extend", request)

    def was_debited(
        self, actual: int, /, *, charged: int = 0, debt: int = 0, **changes: Any
    ) -> Exchange:
        request = {
            "idempotency_key": new_key(),
            "subject": self._tenant.subject(),
            "action": {"kind": "llm.completion", "name": "test-model"},
            "actual": {"unit": UNIT, "amount": actual},
            **changes,
        }
        return self._call("/v1/events", request)

    def was_decided(self, amount: int = 100, /, **changes: Any) -> Exchange:
        return self._call("/v1/decide", self._tenant.reserve_body(amount, **changes))

    def was_tried(self, amount: int = 100, /, **changes: Any) -> Exchange:
        return self.was_reserved(amount, dry_run=True, **changes)


Actor = Here | ReferenceTenant
Scenario = Callable[[ReferenceTenant, Actor], list[Exchange]]


def plain(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    return [server.was_reserved(100), server.was_decided(10), server.was_tried(20)]


def rich(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    subject = {**tenant.subject(app="chat"), "dimensions": {"team": "core"}}
    reserved = server.was_reserved(
        200,
        subject=subject,
        action={"kind": "tool.call", "name": "b/c", "tags": ["t"]},
        metadata={"list": [], "map": {}, "n": 1.5, "path": "a/b"},
        ttl_ms=120_000,
        grace_period_ms=0,
        overage_policy=OVERDRAFT,
    )
    return [reserved, server.was_decided(10, subject=subject), server.was_tried(9, subject=subject)]


def capped(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    tenant.budget(caps_json=json.dumps(CAPS))
    return [server.was_reserved(100)]


def committed(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    reserved = server.was_reserved(300)
    return [reserved, server.was_committed(reserved, 250)]


def committed_with_maps(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    reserved = server.was_reserved(300, subject=tenant.subject(app="chat"))
    metrics = {"tokens_input": 5, "custom": {"z": 1}}
    return [
        reserved,
        server.was_committed(reserved, 400, metrics=metrics, metadata={"q": [], "r": {}}),
    ]


def cut_down(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    tenant.budget(allocated=120)
    reserved = server.was_reserved(100)
    return [reserved, server.was_committed(reserved, 900, charged=120, over_limit=True)]


def in_debt(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    tenant.budget(allocated=100, overdraft_limit=500)
    reserved = server.was_reserved(100, overage_policy=OVERDRAFT)
    return [reserved, server.was_committed(reserved, 150, debt=50)]


def released(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    reserved = server.was_reserved(100, subject=tenant.subject(app="chat"))
    return [reserved, server.was_released(reserved, reason="done")]


def extended(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    reserved = server.was_reserved(100, subject=tenant.subject(app="chat"))
    return [reserved, server.was_extended(reserved, 30_000, metadata={"beat": 1})]


def debited(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    return [
        server.was_debited(10),
        server.was_debited(
            11,
            subject=tenant.subject(app="chat"),
            action={"kind": "tool.call", "name": "b/c", "tags": ["t"]},
            metrics={"tokens_input": 3},
            metadata={"m": []},
            client_time_ms=1_700_000_000_000,
            overage_policy="REJECT",
        ),
    ]


def debited_in_debt(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    tenant.budget(allocated=100, remaining=0, spent=100, overdraft_limit=500)
    return [server.was_debited(7, debt=7, overage_policy=OVERDRAFT)]


def beyond_doubles(tenant: ReferenceTenant, server: Actor) -> list[Exchange]:
    tenant.budget(allocated=2**63 - 1, unit="CREDITS")
    amount = {"unit": "CREDITS", "amount": 2**53 + 1}
    reserved, other = (server.was_reserved(2**53 + 1, estimate=amount) for _ in range(2))
    return [
        server.was_tried(2**53 + 1, estimate=amount),
        *(reserved, other),
        server.was_extended(other, 1000),
        server.was_committed(reserved, 2**53 - 1),
        server.was_released(other),
        server.was_debited(2**61 + 1, actual={"unit": "CREDITS", "amount": 2**61 + 1}),
    ]


SCENARIOS: list[Scenario] = [
    *(plain, rich, capped, committed, committed_with_maps, cut_down, in_debt, released),
    *(extended, debited, debited_in_debt, beyond_doubles),
]
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)


@pytest.fixture(scope="module")
def keeping(start_once: StartServer) -> Running:
    """A server that keeps first answers for the reference."""
    return start_once(**{SETTING: "true"})


@pytest.fixture
def tenant(keeping: Running) -> Iterator[ReferenceTenant]:
    tenant = new_tenant(keeping.redis, keeping.url)
    yield tenant
    tenant.http.close()


@pytest.fixture
def twin(keeping: Running) -> Iterator[ReferenceTenant]:
    twin = new_tenant(keeping.redis, keeping.url)
    yield twin
    twin.http.close()


# -- records, and what is alike about them ---------------------------------------------------------


def records_of(tenant: ReferenceTenant, exchange: Exchange) -> list[str]:
    """The keys that the reference replays an exchange from."""
    names, key = tenant.names, exchange.request["idempotency_key"]
    operation = exchange.path.rpartition("/")[2]
    if operation == "decide":
        return [names.idempotency("decide", key)]
    if operation == "events":
        return [names.idempotency("event", key), names.event(exchange.id)]
    if operation == "extend":
        return [names.idempotency("extend", f"{exchange.id}:{key}")]
    reservation = names.reservation(exchange.id)
    if operation == "reservations":
        record = names.idempotency("reserve", key)
        if not exchange.id:
            return [record]
        return [record, reservation, names.first_answer("reserve", exchange.id)]
    return [reservation, names.first_answer(operation, exchange.id)]


def read(tenant: ReferenceTenant, key: str) -> Any:
    """A record as the reference reads it: texts and JSON, names and times taken out."""

    def masked(text: str) -> Any:
        value: Any = text
        if text[:1] in ("{", "["):
            value = json.loads(text)
        return blurred(value)

    def blurred(value: Any, member: str = "") -> Any:
        if isinstance(value, dict):
            members = {name: blurred(item, name) for name, item in value.items()}
            # Subject and action: a member that was not sent is null there, and absent here.
            return {name: item for name, item in members.items() if item is not None}
        if isinstance(value, list):
            return [blurred(item) for item in value]
        if isinstance(value, str):
            nested = json.loads(value) if member == "affected_scopes_json" else None
            if nested is not None:
                return ["text", *blurred(nested)]
            text = value.replace(tenant.name, "<tenant>")
            text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "<id>", text)
            text = re.sub(r"\b[0-9a-f]{32}\b", "<key>", text)
            return re.sub(r"\b[12]\d{12}\b", "<ms>", text)
        if isinstance(value, int) and member in ("expires_at_ms", "extended_at"):
            return "a number of ms"
        if isinstance(value, int) and member == "remaining_ttl_ms":
            return round(value, -4)
        return value

    if tenant.redis.type(key) == b"hash":
        stored = tenant.redis.hgetall(key)
        return {name.decode(): masked(value.decode()) for name, value in stored.items()}
    text = tenant.redis.get(key)
    assert text is not None, f"no {key}"
    return masked(text.decode())


def only_theirs(tenant: ReferenceTenant) -> None:
    """Take away what no server but this one writes."""
    for key in (*tenant.redis.keys("reservation:res_*"), *tenant.redis.keys("event:evt_*")):
        for field in tenant.redis.hkeys(key):
            if OURS.fullmatch(field.decode()):
                tenant.redis.hdel(key, field)
    hashes = tenant.redis.keys("cycles:idemhash:*")
    if hashes:
        tenant.redis.delete(*hashes)


# -- kept ------------------------------------------------------------------------------------------


@each_scenario
def test_the_records_are_those_of_the_reference(
    tenant: ReferenceTenant, twin: ReferenceTenant, scenario: Scenario
) -> None:
    lived = scenario(tenant, Here(tenant)), scenario(twin, twin)
    for ours, theirs in zip(*lived, strict=True):
        for key, other in zip(records_of(tenant, ours), records_of(twin, theirs), strict=True):
            here, there = read(tenant, key), read(twin, other)
            if tenant.redis.type(key) == b"hash":
                here = {name: value for name, value in here.items() if name in there}
                there = {k: v for k, v in there.items() if not NOT_REPLAYED.fullmatch(k)}
            assert here == there, key
            # Our record of a reserve lives longer than the reference's, never shorter.
            ttl, least = tenant.redis.pttl(key), twin.redis.pttl(other)
            assert ttl >= least - TOLERANCE_MS
            if ":reserve:" not in key or not ours.id:
                assert abs(ttl - least) < TOLERANCE_MS, key


@each_scenario
def test_the_body_that_is_kept_is_the_first_answer(
    tenant: ReferenceTenant, scenario: Scenario
) -> None:
    for exchange in scenario(tenant, Here(tenant)):
        for key in records_of(tenant, exchange):
            if ":body:" in key or ":decide:" in key or not exchange.id:
                assert json.loads(tenant.redis.get(key)) == exchange.answer


@pytest.mark.parametrize("bodies", [True, False], ids=["from the body", "from the snapshot"])
@each_scenario
def test_what_is_kept_is_enough_to_replay(
    tenant: ReferenceTenant, scenario: Scenario, bodies: bool
) -> None:
    exchanges = scenario(tenant, Here(tenant))
    only_theirs(tenant)
    if not bodies and (found := tenant.redis.keys("*:body:*")):
        tenant.redis.delete(*found)
    before = tenant.amounts()
    for exchange in exchanges:
        answer = tenant.http.post(exchange.path, json=exchange.request)
        assert answer.status_code == exchange.status, answer.text
        first, again = (dict(body) for body in (exchange.answer, answer.json()))
        first.pop("remaining_ttl_ms", None), again.pop("remaining_ttl_ms", None)
        assert again == first
    assert tenant.amounts() == before


@each_scenario
def test_our_own_replays_stay_the_same(tenant: ReferenceTenant, scenario: Scenario) -> None:
    for exchange in scenario(tenant, Here(tenant)):
        answer = tenant.http.post(exchange.path, json=exchange.request)
        first, again = (dict(body) for body in (exchange.answer, answer.json()))
        first.pop("remaining_ttl_ms", None), again.pop("remaining_ttl_ms", None)
        assert again == first


def test_a_refused_call_keeps_nothing(tenant: ReferenceTenant) -> None:
    before = set(tenant.redis.keys("*:body:*"))
    reserved = tenant.reserved(100, overage_policy="REJECT")
    kept = {tenant.names.first_answer("reserve", reserved).encode()}
    assert error_of(tenant.reserve(10**9)) == (409, "BUDGET_EXCEEDED")
    assert error_of(tenant.commit(reserved, 101)) == (409, "BUDGET_EXCEEDED")
    assert set(tenant.redis.keys("*:body:*")) == before | kept


def test_a_debit_that_was_cut_down_tells_what_it_charged(
    tenant: ReferenceTenant, twin: ReferenceTenant
) -> None:
    for one in (tenant, twin):
        one.budget(allocated=100)
    ours = Here(tenant).was_debited(120)
    theirs = twin.was_debited(120, charged=100)
    kept = [
        read(one, one.names.event(exchange.id))["event_response_json"]
        for one, exchange in ((tenant, ours), (twin, theirs))
    ]
    assert kept[0]["charged"] == kept[1]["charged"] == "100"
    assert ours.answer["charged"]["amount"] == 100


# -- shared ----------------------------------------------------------------------------------------


def test_the_reference_settles_what_was_reserved_here(tenant: ReferenceTenant) -> None:
    here = Here(tenant)
    first, second, third = (here.was_reserved(100) for _ in range(3))
    exchanges = [
        tenant.was_committed(first, 60, metadata={"a": 1}),
        tenant.was_released(second),
        tenant.was_extended(third, 30_000),
    ]
    for exchange in exchanges:
        answer = tenant.http.post(exchange.path, json=exchange.request)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body | {"remaining_ttl_ms": 0} == exchange.answer | {"remaining_ttl_ms": 0}
    for reserved in (first, second, third):
        answer = tenant.http.post(reserved.path, json=reserved.request)
        assert answer.json()["balances"] == reserved.answer["balances"]
    assert tenant.amounts()["reserved"] == 100


# -- the setting is off ----------------------------------------------------------------------------


def test_nothing_more_is_kept_unless_asked_for(running: Running) -> None:
    tenant = new_tenant(running.redis, running.url)
    for scenario in (committed, released, debited):
        for one in {exchange.id for exchange in scenario(tenant, Here(tenant))}:
            for operation in ("reserve", "commit", "release"):
                assert not tenant.redis.exists(tenant.names.first_answer(operation, one))
            for record in (tenant.names.reservation(one), tenant.names.event(one)):
                assert not [name for name in tenant.redis.hkeys(record) if b"_response_" in name]


def test_no_hash_of_ours_stands_in_a_field_of_the_reference(running: Running) -> None:
    tenant = new_tenant(running.redis, running.url)
    for scenario, field in (
        (committed, "committed_payload_hash"),
        (released, "released_payload_hash"),
    ):
        _, last = scenario(tenant, Here(tenant))
        assert not tenant.redis.hexists(tenant.names.reservation(last.id), field)


def test_an_extension_is_kept_in_its_form_always(running: Running) -> None:
    tenant, twin = new_tenant(running.redis, running.url), new_tenant(running.redis, running.url)
    _, ours = extended(tenant, Here(tenant))
    _, theirs = extended(twin, twin)
    (key,), (other,) = records_of(tenant, ours), records_of(twin, theirs)
    assert read(tenant, key) == read(twin, other)


# -- before the hashes moved -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "old", "new"),
    [
        (committed, "committed_payload_hash", "commit_request_hash"),
        (released, "released_payload_hash", "release_request_hash"),
    ],
)
def test_records_from_before_still_replay(
    running: Running, scenario: Scenario, old: str, new: str
) -> None:
    tenant = new_tenant(running.redis, running.url)
    _, last = scenario(tenant, Here(tenant))
    record = tenant.names.reservation(last.id)
    tenant.redis.hset(record, old, tenant.redis.hget(record, new))
    tenant.redis.hdel(record, new)
    again = tenant.http.post(last.path, json=last.request)
    assert (again.status_code, again.json()) == (200, last.answer)
    other = tenant.http.post(last.path, json={**last.request, "metadata": {"other": 1}})
    if scenario is committed:
        assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
    other = tenant.http.post(last.path, json={**last.request, "reason": "other"})
    if scenario is released:
        assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
