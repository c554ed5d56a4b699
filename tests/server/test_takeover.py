"""Taking over a store that the reference wrote: every record goes on working here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from support.reference import Exchange, ReferenceTenant, new_tenant
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import UNIT, error_of, new_key
from support.wire import eventually

from cycles_server.cli import main

Json = dict[str, Any]

CAPS = {"max_tokens": 100, "tool_allowlist": []}
METADATA = {"list": [], "map": {}, "n": 1.5, "path": "a/b"}
ADMIN = {"X-Admin-API-Key": ADMIN_KEY}


@pytest.fixture(scope="module")
def old(start_once: StartServer) -> Running:
    """A server on a store that nobody but the reference has written to."""
    return start_once()


@pytest.fixture
def tenant(old: Running) -> Iterator[ReferenceTenant]:
    tenant = new_tenant(old.redis, old.url)
    yield tenant
    tenant.http.close()


def chat(tenant: ReferenceTenant, **dimensions: str) -> Json:
    return {**tenant.subject(app="chat"), **({"dimensions": dimensions} if dimensions else {})}


def rich(tenant: ReferenceTenant) -> Exchange:
    return tenant.was_reserved(
        200,
        subject=chat(tenant, team="core"),
        metadata=METADATA,
        ttl_ms=120_000,
        grace_period_ms=0,
        overage_policy="ALLOW_WITH_OVERDRAFT",
    )


def with_caps(tenant: ReferenceTenant) -> Exchange:
    tenant.budget(f"tenant:{tenant.name}/app:capped", caps_json=json.dumps(CAPS))
    return tenant.was_reserved(100, subject=tenant.subject(app="capped"))


def huge(tenant: ReferenceTenant) -> Exchange:
    tenant.budget(f"tenant:{tenant.name}", 2**63 - 1, unit="CREDITS")
    estimate = {"unit": "CREDITS", "amount": 2**53 + 1}
    return tenant.was_reserved(2**53 + 1, estimate=estimate)


LIVE: dict[str, Callable[[ReferenceTenant], Exchange]] = {
    "plain": lambda tenant: tenant.was_reserved(100),
    "rich": rich,
    "caps": with_caps,
    "huge": huge,
}


def ended(tenant: ReferenceTenant) -> dict[str, list[Exchange]]:
    """Reservations that are over, by how they ended: each with what was asked and answered."""

    def committed(first: Exchange, actual: int, **how: Any) -> list[Exchange]:
        return [first, tenant.was_committed(first, actual, **how)]

    released, expired = tenant.was_reserved(30), tenant.was_reserved(40)
    tenant.has_expired(expired)
    limited = {"subject": chat(tenant), "overage_policy": "ALLOW_WITH_OVERDRAFT"}
    return {
        "below its estimate": committed(tenant.was_reserved(300), 250),
        "above its estimate": committed(
            rich(tenant), 400, metrics={"tokens_input": 5, "custom": {"z": 1}}, metadata={"q": [1]}
        ),
        "cut down": committed(tenant.was_reserved(100), 900, charged=150, over_limit=True),
        "in debt": committed(tenant.was_reserved(100, **limited), 150, debt=20),
        "released": [released, tenant.was_released(released, reason="done")],
        "expired": [expired],
    }


def further(tenant: ReferenceTenant) -> list[Exchange]:
    """What is no reservation, and an extension."""
    tags = {"kind": "tool.call", "name": "b/c", "tags": ["t"]}
    return [
        tenant.was_extended(tenant.was_reserved(10), 30_000, metadata={"beat": 1}),
        tenant.was_decided(10, subject=chat(tenant)),
        tenant.was_tried(20, subject=chat(tenant)),
        tenant.was_debited(10),
        tenant.was_debited(
            11,
            subject=chat(tenant),
            action=tags,
            metrics={"tokens_input": 3},
            metadata={"m": 1},
            client_time_ms=1_700_000_000_000,
            overage_policy="REJECT",
        ),
        tenant.was_debited(50, charged=12),
        tenant.was_debited(60, debt=5, subject=chat(tenant)),
    ]


def send(tenant: ReferenceTenant, exchange: Exchange, **changes: Any) -> httpx.Response:
    return tenant.http.post(exchange.path, json={**exchange.request, **changes})


def stored(tenant: ReferenceTenant) -> list[dict[str, str]]:
    """Every budget of the tenant, as it is stored."""
    keys = sorted(key.decode() for key in tenant.redis.smembers(tenant.names.budgets))
    return [tenant.stored_budget(*tenant.names.scope_and_unit(key)) for key in keys]


def assert_replayed(tenant: ReferenceTenant, exchange: Exchange, *, live: bool = True) -> None:
    before = stored(tenant)
    again = send(tenant, exchange)
    assert again.status_code == exchange.status, again.text
    answer, first = again.json(), dict(exchange.answer)
    if "remaining_ttl_ms" in first:
        left = first.pop("remaining_ttl_ms")
        fresh = answer.pop("remaining_ttl_ms")
        assert (left - 60_000 < fresh <= left) if live else fresh == 0
    assert answer == first
    assert stored(tenant) == before


# -- access ----------------------------------------------------------------------------------------


def test_keys_open(old: Running, tenant: ReferenceTenant) -> None:
    main = tenant.new_key(cost=12)
    revoked = tenant.new_key(status="REVOKED", revoked_at="2026-02-01T00:00:00.000000001Z")
    lapsed = tenant.new_key(expires_at="2026-02-01T00:00:00Z")
    scoped = tenant.new_key(scope_filter=[f"tenant:{tenant.name}", "app:chat"])
    filters = {"tenant": tenant.name}
    for secret, status in ((main, 200), (revoked, 401), (lapsed, 401), (scoped, 200)):
        headers = {"X-Cycles-API-Key": secret}
        answer = httpx.get(f"{old.url}/v1/balances", params=filters, headers=headers)
        assert answer.status_code == status
    rows = answer.json()["balances"]
    assert [row["scope_path"] for row in rows] == [f"tenant:{tenant.name}/app:chat"]


def test_a_suspended_tenant_still_settles(tenant: ReferenceTenant) -> None:
    reserved = tenant.was_reserved(100)
    tenant.record(status="SUSPENDED", suspended_at="2026-02-01T00:00:00.000000001Z")
    assert error_of(tenant.reserve(1)) == (401, "UNAUTHORIZED")
    assert tenant.commit(reserved.id, 60).json()["charged"]["amount"] == 60


def test_a_closed_tenant_reads_and_replays_and_no_more(tenant: ReferenceTenant) -> None:
    exchanges = [*further(tenant), *(step for steps in ended(tenant).values() for step in steps)]
    live = tenant.was_reserved(100)
    tenant.record(status="CLOSED", closed_at="2026-02-01T00:00:00.000000001Z")
    for exchange in exchanges:
        answer = send(tenant, exchange)
        assert answer.status_code == exchange.status, answer.text
    assert tenant.get(live.id).json()["status"] == "ACTIVE"
    closed = (409, "TENANT_CLOSED")
    assert error_of(tenant.commit(live.id, 1)) == closed
    assert error_of(tenant.extend(live.id, 1000)) == closed
    assert error_of(send(tenant, live, metadata={"other": 1})) == closed
    assert error_of(send(tenant, exchanges[3], metadata={"other": 1})) == closed
    decided = send(tenant, exchanges[1], subject=tenant.subject())
    assert decided.json()["reason_code"] == "TENANT_CLOSED"


# -- live reservations -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LIVE)
def test_a_live_reservation_is_shown_as_it_was_asked_for(
    tenant: ReferenceTenant, kind: str
) -> None:
    reserved = LIVE[kind](tenant)
    shown = tenant.get(reserved.id).json()
    request, answer = reserved.request, reserved.answer
    assert shown["status"] == "ACTIVE"
    assert shown["subject"] == request["subject"]
    assert shown["action"] == request["action"]
    assert shown["reserved"] == request["estimate"]
    assert shown["affected_scopes"] == answer["affected_scopes"]
    assert shown["expires_at_ms"] == answer["expires_at_ms"]
    assert shown.get("metadata") == request.get("metadata")
    assert "committed_metadata" not in shown


@pytest.mark.parametrize("kind", LIVE)
def test_a_live_reservation_is_committed(tenant: ReferenceTenant, kind: str) -> None:
    reserved = LIVE[kind](tenant)
    held = reserved.request["estimate"]
    actual = {"unit": held["unit"], "amount": held["amount"] - 1}
    key = new_key()
    first, again = (
        tenant.commit(reserved.id, 0, actual=actual, idempotency_key=key) for _ in range(2)
    )
    assert first.json()["charged"] == actual
    assert first.json()["released"]["amount"] == 1
    assert again.text == first.text
    for scope in reserved.answer["affected_scopes"]:
        amounts = tenant.amounts(scope, held["unit"])
        assert (amounts["reserved"], amounts["spent"]) == (0, actual["amount"])


@pytest.mark.parametrize("kind", LIVE)
def test_a_live_reservation_is_released(tenant: ReferenceTenant, kind: str) -> None:
    reserved = LIVE[kind](tenant)
    unit = reserved.request["estimate"]["unit"]
    assert tenant.release(reserved.id).json()["released"] == reserved.request["estimate"]
    for scope in reserved.answer["affected_scopes"]:
        amounts = tenant.amounts(scope, unit)
        assert (amounts["reserved"], amounts["remaining"]) == (0, amounts["allocated"])


@pytest.mark.parametrize("kind", LIVE)
def test_a_live_reservation_is_extended(tenant: ReferenceTenant, kind: str) -> None:
    reserved = LIVE[kind](tenant)
    expires = reserved.answer["expires_at_ms"] + 30_000
    answer = tenant.extend(reserved.id, 30_000).json()
    assert answer["expires_at_ms"] == expires
    assert answer["balances"] == reserved.answer["balances"]
    assert_replayed(tenant, reserved)
    grace = reserved.request.get("grace_period_ms", 5000)
    record = tenant.names.idempotency("reserve", reserved.request["idempotency_key"])
    assert tenant.redis.pexpiretime(record) == expires + grace + 86_400_000


def test_an_operator_releases_it(tenant: ReferenceTenant) -> None:
    reserved = rich(tenant)
    body = {"idempotency_key": new_key(), "reason": "stuck"}
    path = f"/v1/reservations/{reserved.id}/release"
    answer = tenant.http.post(path, json=body, headers=ADMIN)
    assert answer.json()["released"]["amount"] == 200


def test_lapsed_ones_give_their_holds_back(tenant: ReferenceTenant) -> None:
    lapsed = [
        tenant.was_reserved(70, ttl_ms=1000, grace_period_ms=0),
        tenant.was_reserved(80, ttl_ms=1000, grace_period_ms=0, subject=chat(tenant)),
    ]
    eventually(lambda: tenant.amounts()["reserved"] == 0)
    assert tenant.amounts(f"tenant:{tenant.name}/app:chat")["reserved"] == 0
    for reserved in lapsed:
        assert error_of(tenant.get(reserved.id)) == (410, "RESERVATION_EXPIRED")
        assert_replayed(tenant, reserved, live=False)


@pytest.mark.parametrize("field", ["grace_ms", "overage_policy", "budgeted_scopes", "created_at"])
@pytest.mark.parametrize("end", ["commit", "release", "expiry"])
def test_an_optional_field_may_be_empty(tenant: ReferenceTenant, field: str, end: str) -> None:
    lease = {"ttl_ms": 1000, "grace_period_ms": 0} if end == "expiry" else {}
    reserved = tenant.was_reserved(100, subject=chat(tenant), **lease)
    tenant.redis.hset(tenant.names.reservation(reserved.id), field, "")
    if end == "commit":
        assert tenant.commit(reserved.id, 60).status_code == 200
    elif end == "release":
        assert tenant.extend(reserved.id, 1000).status_code == 200
        assert tenant.release(reserved.id).status_code == 200
    for scope in reserved.answer["affected_scopes"]:
        eventually(lambda s=scope: tenant.amounts(s)["reserved"] == 0)


def test_an_optional_amount_of_a_budget_may_be_empty(tenant: ReferenceTenant) -> None:
    tenant.budget(reserved="", spent="", debt="", overdraft_limit="", commit_overage_policy="")
    tenant.redis.hset(tenant.names.budget(f"tenant:{tenant.name}", UNIT), "caps_json", "")
    (row,) = [
        row for row in tenant.balances().json()["balances"] if row["scope_path"].count("/") == 0
    ]
    assert (row["spent"]["amount"], "debt" in row) == (0, False)
    answer = tenant.reserve(100).json()
    assert answer["balances"][0]["spent"]["amount"] == 0
    assert tenant.commit(answer["reservation_id"], 60).status_code == 200
    assert tenant.event(5).status_code == 201
    assert tenant.amounts()["spent"] == 65


# -- what is over ----------------------------------------------------------------------------------


def test_what_is_over_is_shown_and_listed(tenant: ReferenceTenant) -> None:
    steps = ended(tenant)
    live = rich(tenant)
    listed = tenant.list(include="metadata,committed_metadata,evidence", limit=200).json()
    rows = {row["reservation_id"]: row for row in listed["reservations"]}
    assert rows.keys() == {live.id, *(first.id for first, *_ in steps.values())}
    assert rows[live.id]["metadata"] == METADATA
    for first, *last in steps.values():
        row = rows[first.id]
        if not last:
            assert row["status"] == "EXPIRED"
            assert "finalized_at_ms" not in row
            assert error_of(tenant.get(first.id)) == (410, "RESERVATION_EXPIRED")
            continue
        answer, request = last[0].answer, last[0].request
        assert row["status"] == answer["status"]
        assert row.get("committed") == answer.get("charged")
        assert row.get("metadata") == first.request.get("metadata")
        assert row.get("committed_metadata") == request.get("metadata")
        assert row["finalized_at_ms"] >= row["created_at_ms"]
        assert tenant.get(first.id).json() == row
    by_status = tenant.list(
        status="COMMITTED", sort_by="reserved", finalized_from="2026-01-01T00:00:00Z"
    )
    assert len(by_status.json()["reservations"]) == 4
    (found,) = tenant.list(idempotency_key=live.request["idempotency_key"]).json()["reservations"]
    assert found["reservation_id"] == live.id


def test_what_is_over_stays_over(tenant: ReferenceTenant) -> None:
    for how, (first, *_) in ended(tenant).items():
        refused = (
            (410, "RESERVATION_EXPIRED") if how == "expired" else (409, "RESERVATION_FINALIZED")
        )
        assert error_of(tenant.commit(first.id, 1)) == refused
        assert error_of(tenant.release(first.id)) == refused
        assert error_of(tenant.extend(first.id, 1000)) == refused


def test_debt_and_flags_bind_here(tenant: ReferenceTenant) -> None:
    ended(tenant)
    assert error_of(tenant.reserve(1)) == (409, "OVERDRAFT_LIMIT_EXCEEDED")
    row = tenant.balances(tenant=tenant.name, app="chat").json()["balances"][0]
    assert row["debt"]["amount"] == 20


# -- replays ---------------------------------------------------------------------------------------


def exchanges_of(tenant: ReferenceTenant) -> list[tuple[Exchange, bool]]:
    """All that can be replayed, and whether it is still live."""
    live = [(make(tenant), True) for make in LIVE.values()]
    over = [(first, False) for first, *_ in ended(tenant).values()]
    last = [(step, False) for _, *steps in ended(tenant).values() for step in steps]
    return live + over + last + [(exchange, True) for exchange in further(tenant)]


def test_the_first_answer_comes_again(tenant: ReferenceTenant) -> None:
    for exchange, live in exchanges_of(tenant):
        assert_replayed(tenant, exchange, live=live)


def test_the_first_answer_comes_again_from_the_records_alone(tenant: ReferenceTenant) -> None:
    """The bodies are kept for a day only."""
    exchanges = exchanges_of(tenant)
    bodies = tenant.redis.keys("*:body:*")
    tenant.redis.delete(*bodies)
    for exchange, live in exchanges:
        assert_replayed(tenant, exchange, live=live)


def test_numbers_in_the_form_that_the_reference_writes(tenant: ReferenceTenant) -> None:
    """It reads integers exactly and all else as doubles, and writes those in its own way."""
    metadata = {"id": 17293822569102704640, "big": 1e21, "whole": 100.0, "long": 0.1, "yes": True}
    reserved = tenant.was_reserved(10, metadata=metadata)
    kept = '{"id":17293822569102704640,"big":1.0E21,"whole":100.0,"long":0.1,"yes":true}'
    key = tenant.keys.tenant(tenant.name).reservation(reserved.id)
    tenant.redis.hset(key, "metadata_json", kept)

    def replay(text: str) -> httpx.Response:
        body = json.dumps({**reserved.request, "metadata": "HERE"}).replace('"HERE"', text)
        headers = {"Content-Type": "application/json"}
        return tenant.http.post(reserved.path, content=body, headers=headers)

    same = (
        '{"yes":true,"id":17293822569102704640,"big":1e21,"whole":1e2,'
        '"long":0.10000000000000000001}'
    )
    assert replay(same).json()["reservation_id"] == reserved.id
    for other in (
        same.replace("4640", "4641"),
        same.replace("true", "1"),
        same.replace("1e2,", "101,"),
    ):
        assert error_of(replay(other)) == (409, "IDEMPOTENCY_MISMATCH")
    shown = tenant.http.get(f"/v1/reservations/{reserved.id}").text
    assert kept in shown


def test_a_record_without_any_answer_still_replays_what_it_did(tenant: ReferenceTenant) -> None:
    exchanges = exchanges_of(tenant)
    tenant.redis.delete(*tenant.redis.keys("*:body:*"))
    for key in (*tenant.redis.keys("reservation:res_*"), *tenant.redis.keys("event:evt_*")):
        for name in ("reserve", "commit", "release", "event"):
            tenant.redis.hdel(key, f"{name}_response_json")
    before = stored(tenant)
    for exchange, _ in exchanges:
        answer = send(tenant, exchange)
        assert answer.status_code == exchange.status, answer.text
        for member in ("reservation_id", "event_id", "charged", "released", "scope_path"):
            assert answer.json().get(member) == exchange.answer.get(member)
    assert stored(tenant) == before


@pytest.mark.parametrize("record", ["body", "snapshot"])
@pytest.mark.parametrize("text", ["{", "[]", '{"balances":[1]}'])
def test_a_damaged_answer_is_an_error_and_reserves_nothing(
    tenant: ReferenceTenant, record: str, text: str
) -> None:
    reserved = tenant.was_reserved(100)
    body = tenant.names.first_answer("reserve", reserved.id)
    if record == "body":
        tenant.redis.set(body, text, keepttl=True)
    else:
        tenant.redis.delete(body)
        fields = {"reserve_response_json": text}
        tenant.redis.hset(tenant.names.reservation(reserved.id), mapping=fields)
    before = stored(tenant)
    assert error_of(send(tenant, reserved)) == (500, "INTERNAL_ERROR")
    assert stored(tenant) == before


OTHERS: list[Json] = [
    {"estimate": {"unit": UNIT, "amount": 101}},
    {"estimate": {"unit": "CREDITS", "amount": 100}},
    {"metadata": {"other": 1}},
    {"action": {"kind": "llm.completion", "name": "other"}},
    {"overage_policy": "REJECT"},
    {"dry_run": True},
]


@pytest.mark.parametrize("change", OTHERS)
def test_another_reserve_is_told_so(tenant: ReferenceTenant, change: Json) -> None:
    reserved = tenant.was_reserved(100)
    assert error_of(send(tenant, reserved, **change)) == (409, "IDEMPOTENCY_MISMATCH")
    tenant.budget(f"tenant:{tenant.name}/app:other")
    other = send(tenant, reserved, subject=tenant.subject(app="other"))
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")


def test_another_commit_is_told_so(tenant: ReferenceTenant) -> None:
    metrics = {"tokens_input": 5}
    first = tenant.was_committed(tenant.was_reserved(300), 250, metrics=metrics, metadata={"a": 1})
    cut = tenant.was_committed(tenant.was_reserved(100), 900, charged=150)
    changes: list[tuple[Exchange, Json]] = [
        *((first, {"actual": {"unit": UNIT, "amount": amount}}) for amount in (249, 251, 301)),
        (first, {"actual": {"unit": "CREDITS", "amount": 250}}),
        *((first, {"metrics": other}) for other in ({"tokens_input": 6}, {})),
        *((first, {"metadata": other}) for other in ({"a": 2}, {})),
        (cut, {"actual": {"unit": UNIT, "amount": 149}}),
        (cut, {"metadata": {"a": 1}}),
    ]
    for exchange, change in changes:
        answer = send(tenant, exchange, **change)
        assert error_of(answer) == (409, "IDEMPOTENCY_MISMATCH"), change


def test_another_debit_is_told_so(tenant: ReferenceTenant) -> None:
    first = tenant.was_debited(10, metadata={"a": 1}, client_time_ms=1)
    changes: list[Json] = [
        {"actual": {"unit": UNIT, "amount": 11}},
        {"actual": {"unit": "CREDITS", "amount": 10}},
        {"subject": chat(tenant)},
        {"action": {"kind": "llm.completion", "name": "other"}},
        {"metadata": {"a": 2}},
        {"metrics": {"tokens_input": 1}},
    ]
    for change in changes:
        answer = send(tenant, first, **change)
        assert error_of(answer) == (409, "IDEMPOTENCY_MISMATCH"), change
    assert send(tenant, first, client_time_ms=2).json() == first.answer


def test_another_decision_is_told_so(tenant: ReferenceTenant) -> None:
    decided, tried = tenant.was_decided(10), tenant.was_tried(10)
    other = {"subject": chat(tenant)}
    more = {"estimate": {"unit": UNIT, "amount": 11}}
    for exchange, change in ((decided, other), (tried, other), (tried, more)):
        answer = send(tenant, exchange, **change)
        assert error_of(answer) == (409, "IDEMPOTENCY_MISMATCH"), exchange.path
    # Of the amount a decision tells nothing.
    assert send(tenant, decided, **more).json() == decided.answer


# -- the books -------------------------------------------------------------------------------------


def test_the_doctor_finds_it_healthy(start: StartServer) -> None:
    old = start()
    tenant = new_tenant(old.redis, old.url)
    exchanges_of(tenant)
    closed = ReferenceTenant(old.redis, old.url)
    closed.record(status="CLOSED", closed_at="2026-02-01T00:00:00.000000001Z")
    closed.budget(status="CLOSED")
    for key_id in old.redis.smembers(closed.names.api_keys()):
        name = closed.names.api_key(key_id.decode())
        key = json.loads(old.redis.get(name))
        old.redis.set(name, json.dumps({**key, "status": "REVOKED"}))
    run = CliRunner().invoke(main, ("doctor", "--json"), env={"REDIS_URL": old.store.url})
    report = json.loads(run.stdout)
    assert (run.exit_code, report["healthy"]) == (0, True), report["findings"]
    assert report["counted"]["live"] == 5
    assert report["counted"]["budgets"] == 5
