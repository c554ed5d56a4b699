"""Records that no server of ours writes: refused before anything moves, never half settled."""

from __future__ import annotations

import json
import uuid

import pytest
from support.running import Running
from support.tenants import Tenant, error_of, new_key

DAMAGED = (500, "INTERNAL_ERROR")
INT64_MAX = 2**63 - 1


@pytest.mark.parametrize(
    "scopes", ["", "[]", '["tenant:acme"', '{"a":"tenant:acme"}', "null", "[1]"]
)
@pytest.mark.parametrize("operation", ["commit", "release", "extend"])
def test_scopes_that_cannot_be_read(
    running: Running, tenant: Tenant, scopes: str, operation: str
) -> None:
    reservation = tenant.reserved(10)
    record = tenant.names.reservation(reservation)
    running.redis.hset(record, "affected_scopes", scopes)
    before = tenant.amounts()
    calls = {
        "commit": lambda: tenant.commit(reservation, 7),
        "release": lambda: tenant.release(reservation),
        "extend": lambda: tenant.extend(reservation, 1000),
    }
    assert error_of(calls[operation]()) == DAMAGED
    assert tenant.amounts() == before
    assert running.redis.hget(record, "state") == b"ACTIVE"


@pytest.mark.parametrize("operation", ["commit", "release", "extend"])
@pytest.mark.parametrize(
    ("field", "stored"),
    [
        *(
            ("expires_at", text)
            for text in ("9" * 30, "1e30", "nan", "inf", "0x1p60", "-1", "soon")
        ),
        *(("grace_ms", text) for text in ("9" * 30, "1e30", "nan", "inf", "0x1p60", "-1", "long")),
        ("estimate_unit", None),
        ("estimate_unit", ""),
    ],
)
def test_a_time_or_unit_that_cannot_be_read(
    running: Running, tenant: Tenant, operation: str, field: str, stored: str | None
) -> None:
    reservation = tenant.reserved(10)
    record = tenant.names.reservation(reservation)
    if stored is None:
        running.redis.hdel(record, field)
    else:
        running.redis.hset(record, field, stored)
    before = tenant.amounts(), running.redis.hgetall(record)
    calls = {
        "commit": lambda: tenant.commit(reservation, 7),
        "release": lambda: tenant.release(reservation),
        "extend": lambda: tenant.extend(reservation, 1000),
    }
    refused = calls[operation]()
    assert error_of(refused) == DAMAGED
    assert "damaged" in refused.json()["message"]
    assert (tenant.amounts(), running.redis.hgetall(record)) == before


@pytest.mark.parametrize("stored", ["1e2", "0x10", "5.0", " 5", "-3", "9" * 20, "nan", ""])
def test_an_estimate_that_is_no_amount(running: Running, tenant: Tenant, stored: str) -> None:
    reservation = tenant.reserved(10)
    record = tenant.names.reservation(reservation)
    running.redis.hset(record, "estimate_amount", stored)
    before = tenant.amounts()
    assert error_of(tenant.commit(reservation, 7)) == DAMAGED
    assert error_of(tenant.release(reservation)) == DAMAGED
    assert tenant.amounts() == before


@pytest.mark.parametrize("stored", ["1e30", "1e+15", "0x10", "1-2", "-", "", "9" * 19 + "9"])
def test_a_budget_amount_that_is_no_integer(running: Running, tenant: Tenant, stored: str) -> None:
    tenant.budget(remaining=stored)
    before = tenant.stored_budget()
    assert error_of(tenant.reserve(1)) == DAMAGED
    assert error_of(tenant.event(1)) == DAMAGED
    assert error_of(tenant.decide(1)) == DAMAGED
    assert tenant.stored_budget() == before


def test_caps_that_cannot_be_read_hold_nothing(tenant: Tenant) -> None:
    tenant.budget(caps_json="{bad")
    before = tenant.amounts()
    assert error_of(tenant.reserve(1)) == DAMAGED
    assert error_of(tenant.decide(1)) == DAMAGED
    assert tenant.amounts() == before


def test_null_caps_are_no_caps(tenant: Tenant) -> None:
    tenant.budget(caps_json="null")
    assert tenant.reserve(1).json()["decision"] == "ALLOW"
    assert tenant.decide(1).json()["decision"] == "ALLOW"
    tenant.budget(caps_json='{"max_tokens":5,"tool_allowlist":null}')
    assert tenant.reserve(1).json()["caps"] == {"max_tokens": 5}
    assert tenant.decide(1).json()["caps"] == {"max_tokens": 5}


def test_a_budget_made_anew_keeps_the_holds_of_others(running: Running, tenant: Tenant) -> None:
    """A hold on the budget that was there before must not be paid back from a new one."""
    tenant.budget(allocated=10, created_at=1)
    old = tenant.reserved(10)
    running.redis.delete(tenant.names.budget(f"tenant:{tenant.name}", "TOKENS"))
    seconds, micros = running.redis.time()
    now = seconds * 1000 + micros // 1000
    tenant.budget(allocated=10, created_at=now + 1)
    while running.redis.time()[0] * 1000 + running.redis.time()[1] // 1000 <= now + 1:
        pass
    new = tenant.reserved(10)
    assert tenant.release(old).status_code == 200
    assert tenant.amounts()["reserved"] == 10
    assert error_of(tenant.reserve(10)) == (409, "BUDGET_EXCEEDED")
    assert tenant.commit(new, 10).status_code == 200
    assert tenant.amounts() == {
        "allocated": 10, "remaining": 0, "reserved": 0, "spent": 10, "debt": 0,
    }  # fmt: skip


def test_debt_beyond_the_limit_blocks_without_the_flag(tenant: Tenant) -> None:
    tenant.budget(remaining=900, allocated=1000, debt=100, overdraft_limit=50)
    assert error_of(tenant.reserve(1)) == (409, "OVERDRAFT_LIMIT_EXCEEDED")
    assert tenant.decide(1).json()["reason_code"] == "OVERDRAFT_LIMIT_EXCEEDED"


def test_a_hold_of_the_reference_goes_back_to_a_budget_without_owner(
    running: Running, tenant: Tenant
) -> None:
    scope = f"agent:shared-{tenant.name}"
    tenant.budget(scope, 100, remaining=90, reserved=10)
    running.redis.hdel(tenant.names.budget(scope, "TOKENS"), "tenant_id")
    reservation = tenant.reserved(10)
    running.redis.hset(
        tenant.names.reservation(reservation), "budgeted_scopes", json.dumps([scope])
    )
    assert tenant.commit(reservation, 7).status_code == 200
    assert tenant.amounts(scope)["spent"] == 7
    assert tenant.amounts(scope)["reserved"] == 0


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ({"metadata_json": '{"a":null}'}, {"metadata": {"a": None}}),
        ({"metadata_json": "{}"}, {}),
        (
            {
                "action_json": '{"kind":"llm.completion","name":"test-model","tags":null}',
                "metadata_json": "",
            },
            {},
        ),
    ],
)
def test_a_replay_of_what_the_reference_made(
    running: Running, tenant: Tenant, stored: dict[str, str], sent: dict[str, object]
) -> None:
    body = tenant.reserve_body(10, **sent)
    first = tenant.http.post("/v1/reservations", json=body).json()
    record = tenant.names.reservation(first["reservation_id"])
    running.redis.hdel(record, "request_hash", "lease_ms", "reserve_balances")
    running.redis.hset(record, mapping=stored)
    again = tenant.http.post("/v1/reservations", json=body)
    assert again.json()["reservation_id"] == first["reservation_id"]
    running.redis.hdel(record, "overage_policy")
    assert tenant.http.post("/v1/reservations", json=body).status_code == 200
    other = tenant.http.post("/v1/reservations", json={**body, "metadata": {"b": 1}})
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")


def test_a_refused_debit_names_the_budget_that_refuses(tenant: Tenant) -> None:
    tenant.budget(allocated=3)
    rich = tenant.budget(f"tenant:{tenant.name}/agent:rich", 1000)
    refused = tenant.event(5, subject=tenant.subject(agent="rich"), overage_policy="REJECT")
    assert error_of(refused) == (409, "BUDGET_EXCEEDED")
    assert rich not in refused.json()["message"]


def test_a_record_outlives_its_idempotency_record(running: Running, tenant: Tenant) -> None:
    """Else a late replay would hold once more."""
    key = new_key()
    reservation = tenant.reserved(1, idempotency_key=key)
    running.redis.hset(tenant.names.reservation(reservation), "max_extensions", 100)
    for _ in range(40):
        assert tenant.extend(reservation, 86_400_000).status_code == 200
    assert tenant.commit(reservation, 1).status_code == 200
    record = running.redis.pttl(tenant.names.reservation(reservation))
    assert record >= running.redis.pttl(tenant.names.idempotency("reserve", key)) - 1000


def test_ids_are_random(tenant: Tenant) -> None:
    ids = {uuid.UUID(tenant.reserved(1)) for _ in range(20)}
    assert len(ids) == 20
    assert {one.version for one in ids} == {4}


def test_a_sum_beyond_int64_is_refused_whole(tenant: Tenant) -> None:
    top = tenant.budget(allocated=INT64_MAX, overdraft_limit=INT64_MAX)
    agent = tenant.subject(agent="x")
    scope = f"{top}/agent:x"
    tenant.budget(scope, INT64_MAX, overdraft_limit=1000)
    policy = {"subject": agent, "overage_policy": "ALLOW_WITH_OVERDRAFT"}
    reservation = tenant.reserved(10, **policy)
    # Spent to the last bit: what is left is as far below zero as int64 goes, but for 15.
    tenant.budget(
        scope, 21, spent=INT64_MAX - 3, remaining=14 - INT64_MAX, reserved=10, overdraft_limit=1000
    )
    before = tenant.stored_budget(), tenant.stored_budget(scope)
    refused = (409, "BUDGET_EXCEEDED")
    assert error_of(tenant.event(16, **policy)) == refused
    assert error_of(tenant.commit(reservation, 26)) == refused
    assert (tenant.stored_budget(), tenant.stored_budget(scope)) == before
    assert tenant.event(15, **policy).status_code == 201
    assert tenant.amounts(scope)["remaining"] == -INT64_MAX - 1
    assert tenant.amounts(scope)["debt"] == 15


@pytest.mark.parametrize(
    ("operation", "field", "stored"),
    [
        *(
            ("reserve", field, None)
            for field in ("lease_ms", "estimate_amount", "estimate_unit", "reserve_balances")
        ),
        ("reserve", "created_at", "soon"),
        ("reserve", "scope_path", None),
        ("reserve", "caps_json", "{bad"),
        ("reserve", "reserve_balances", "9:1,2,3,4"),
        ("commit", "estimate_unit", None),
        ("commit", "charged_amount", "x"),
        ("commit", "estimate_amount", None),
        ("commit", "commit_balances", "1:a,b,c,d"),
        ("commit", "affected_scopes", "[bad"),
        ("release", "estimate_unit", None),
        ("release", "estimate_amount", "x"),
        ("release", "release_balances", "1:5"),
        ("extend", "estimate_unit", None),
        ("extend", "extend:again", None),
        ("event", "unit", None),
        ("event", "amount", "x"),
        ("event", "charged_amount", None),
        ("event", "event_balances", None),
    ],
)
def test_a_replay_from_a_damaged_record(
    running: Running, tenant: Tenant, operation: str, field: str, stored: str | None
) -> None:
    reservation = tenant.reserved(10, idempotency_key="again")
    calls = {
        "reserve": lambda: tenant.reserve(10, idempotency_key="again"),
        "commit": lambda: tenant.commit(reservation, 7, idempotency_key="again"),
        "release": lambda: tenant.release(reservation, idempotency_key="again"),
        "extend": lambda: tenant.extend(reservation, 1000, idempotency_key="again"),
        "event": lambda: tenant.event(3, idempotency_key="again"),
    }
    first = calls[operation]()
    assert first.is_success
    record = tenant.names.reservation(reservation)
    if operation == "event":
        record = tenant.names.event(first.json()["event_id"])
    if field == "extend:again":
        kept = running.redis.hget(record, field).decode().rsplit(" ", 1)[0]
        running.redis.hset(record, field, f"{kept} 1:5")
    elif stored is None:
        running.redis.hdel(record, field)
    else:
        running.redis.hset(record, field, stored)
    before = tenant.amounts(), running.redis.hgetall(record)
    refused = calls[operation]()
    assert error_of(refused) == DAMAGED
    assert "damaged" in refused.json()["message"]
    assert (tenant.amounts(), running.redis.hgetall(record)) == before


@pytest.mark.parametrize("field", ["max_extensions", "extension_count"])
@pytest.mark.parametrize("stored", ["many", "-1", "1e3", "9" * 16, "0x1"])
def test_a_count_of_extensions_that_cannot_be_read(
    running: Running, tenant: Tenant, field: str, stored: str
) -> None:
    reservation = tenant.reserved(10)
    record = tenant.names.reservation(reservation)
    running.redis.hset(record, field, stored)
    before = running.redis.hgetall(record)
    refused = tenant.extend(reservation, 1000)
    assert error_of(refused) == DAMAGED
    assert "damaged" in refused.json()["message"]
    assert running.redis.hgetall(record) == before


@pytest.mark.parametrize("absent", [True, False])
def test_a_record_without_counts_of_extensions_has_the_defaults(
    running: Running, tenant: Tenant, absent: bool
) -> None:
    reservation = tenant.reserved(10)
    record = tenant.names.reservation(reservation)
    if absent:
        running.redis.hdel(record, "max_extensions", "extension_count")
    else:
        running.redis.hset(record, mapping={"max_extensions": "", "extension_count": ""})
    assert [tenant.extend(reservation, 1).status_code for _ in range(11)] == [200] * 10 + [409]


def test_a_tenant_that_allows_more_extensions_than_can_be_counted(running: Running) -> None:
    tenant = running.tenant(max_reservation_extensions=10**15)
    tenant.budget()
    reservation = tenant.reserved(10)
    assert [tenant.extend(reservation, 1).status_code for _ in range(11)] == [200] * 10 + [409]
