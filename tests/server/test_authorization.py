"""What a caller may do: permissions, scope filters, and the state of the tenant."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.edges import MUTATIONS, OPERATIONS, READS, check_error, prepare, prepare_all, warm_up
from support.running import Running
from support.tenants import Tenant, error_of, new_key

PERMISSIONS = {
    "decide": {"reservations:create", "decide"},
    "createReservation": {"reservations:create"},
    "commitReservation": {"reservations:commit"},
    "releaseReservation": {"reservations:release"},
    "extendReservation": {"reservations:extend"},
    "listReservations": {"reservations:list"},
    "getReservation": {"reservations:list"},
    "getBalances": {"balances:read", "admin:read"},
    "createEvent": {"reservations:commit", "events:create"},
}
ALL = {
    *(permission for wanted in PERMISSIONS.values() for permission in wanted),
    "budgets:read",
    "budgets:write",
    "policies:read",
    "policies:write",
    "webhooks:read",
    "webhooks:write",
    "events:read",
    "admin:write",
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_asks_for_its_permission(tenant: Tenant, operation: str) -> None:
    warm_up(tenant)
    wanted = PERMISSIONS[operation]
    requests = [prepare(tenant, operation) for _ in wanted]
    tenant.write_key(permissions=sorted(ALL - wanted))
    body = check_error(requests[0].send(tenant.http), 403, "FORBIDDEN")
    assert all(permission in body["message"] for permission in wanted)
    for permission, request in zip(wanted, requests, strict=True):
        tenant.write_key(permissions=[permission])
        assert request.send(tenant.http).is_success
    tenant.write_key(permissions=[])
    check_error(requests[0].send(tenant.http), 403, "FORBIDDEN")
    # Whatever the request would have failed with: the permission comes first.
    for path in ("/v1/decide", "/v1/reservations", "/v1/events", "/v1/reservations/x/commit"):
        check_error(tenant.http.post(path, content=b"{"), 403, "FORBIDDEN")
    check_error(tenant.http.get("/v1/reservations", params={"limit": 0}), 403, "FORBIDDEN")


def test_a_record_without_a_list_has_the_default_permissions(tenant: Tenant) -> None:
    assert "permissions" not in tenant.key_record
    for request in prepare_all(tenant).values():
        assert request.send(tenant.http).is_success


def filtered(tenant: Tenant, scope_filter: list[str]) -> dict[str, list[httpx.Response]]:
    """For each operation, its answers inside agent:in and inside agent:out."""
    tenant.write_key(scope_filter=None)
    warm_up(tenant)
    requests = {
        operation: [prepare(tenant, operation, agent=agent) for agent in ("in", "out")]
        for operation in OPERATIONS
    }
    tenant.write_key(scope_filter=scope_filter)
    return {
        operation: [request.send(tenant.http) for request in pair]
        for operation, pair in requests.items()
    }


@pytest.mark.parametrize(
    "scope_filter",
    [
        ["agent:in"],
        ["agent:IN", "agent:other"],
        ["workspace:*", "agent:in"],
        ["tenant:*", "agent:in"],
    ],
)
def test_a_filter_counts_on_every_operation(tenant: Tenant, scope_filter: list[str]) -> None:
    for agent in ("in", "out"):
        tenant.budget(f"tenant:{tenant.name}/agent:{agent}")
    needs_workspace = "workspace:*" in scope_filter
    before = tenant.amounts()
    answers = filtered(tenant, scope_filter)
    for operation in (*MUTATIONS, "decide", "getReservation"):
        inside, outside = answers[operation]
        check_error(outside, 403, "FORBIDDEN")
        if needs_workspace:
            check_error(inside, 403, "FORBIDDEN")
        else:
            assert inside.is_success, inside.text
    for operation, rows in (("listReservations", "reservations"), ("getBalances", "balances")):
        for answer in answers[operation]:
            paths = {row["scope_path"] for row in answer.json()[rows]}
            expected = set() if needs_workspace else {f"tenant:{tenant.name}/agent:in"}
            assert paths == expected
    assert tenant.amounts()["allocated"] == before["allocated"]


def test_a_filter_of_another_form_admits_nothing(tenant: Tenant) -> None:
    for operation, answers in filtered(tenant, ["everything", "agent"]).items():
        if operation in ("listReservations", "getBalances"):
            assert all(not any(answer.json().values()) for answer in answers)
        else:
            for answer in answers:
                check_error(answer, 403, "FORBIDDEN")


def test_an_empty_filter_admits_everything(tenant: Tenant) -> None:
    tenant.write_key(scope_filter=[])
    for request in prepare_all(tenant, agent="bot").values():
        assert request.send(tenant.http).is_success


def test_outside_the_filter_nothing_is_told(running: Running, tenant: Tenant) -> None:
    other = running.tenant()
    other.budget()
    theirs, mine = other.reserved(), tenant.reserved(subject=tenant.subject(agent="out"))
    tenant.write_key(scope_filter=["agent:in"])
    assert error_of(tenant.commit("unknown", 1)) == (404, "NOT_FOUND")
    assert error_of(tenant.get("unknown")) == (404, "NOT_FOUND")
    for reservation in (theirs, mine):
        assert error_of(tenant.get(reservation)) == (403, "FORBIDDEN")
        assert error_of(tenant.commit(reservation, 1)) == (403, "FORBIDDEN")
        assert error_of(tenant.extend(reservation, 1000)) == (403, "FORBIDDEN")
        assert error_of(tenant.release(reservation)) == (403, "FORBIDDEN")


# -- the tenant's state --------------------------------------------------------------------------

OPEN_WHILE_SUSPENDED = {*READS, "commitReservation", "releaseReservation"}


def test_a_suspended_tenant_settles_and_reads(tenant: Tenant) -> None:
    tenant.record()
    warm_up(tenant)
    requests = prepare_all(tenant)
    extra = prepare_all(tenant)
    tenant.record(status="SUSPENDED")
    for operation, request in requests.items():
        answer = request.send(tenant.http)
        if operation in OPEN_WHILE_SUSPENDED:
            assert answer.is_success, answer.text
        else:
            check_error(answer, 401, "UNAUTHORIZED")
            assert "x-cycles-tenant" not in answer.headers
    for path in ("/v1/decide", "/v1/reservations", "/v1/events", "/v1/reservations/x/extend"):
        check_error(tenant.http.post(path, content=b"{"), 401, "UNAUTHORIZED")
    check_error(tenant.commit("unknown", 1), 404, "NOT_FOUND")
    for _ in range(20):
        check_error(tenant.reserve(), 401, "UNAUTHORIZED")
    tenant.record(status="ACTIVE")
    for request in extra.values():
        assert request.send(tenant.http).is_success


def test_a_closed_tenant_reads_and_replays(tenant: Tenant) -> None:
    tenant.record()
    warm_up(tenant)
    done, fresh = prepare_all(tenant), prepare_all(tenant)
    first = {operation: request.send(tenant.http) for operation, request in done.items()}
    dry_body = tenant.reserve_body(dry_run=True)
    dry = tenant.http.post("/v1/reservations", json=dry_body)
    books = tenant.stored_budget()
    tenant.record(status="CLOSED")
    for operation in READS:
        assert fresh[operation].send(tenant.http).is_success
    for operation in MUTATIONS:
        check_error(fresh[operation].send(tenant.http), 409, "TENANT_CLOSED")
        again = done[operation].send(tenant.http)
        assert lasting(again) == lasting(first[operation])
        changed = json.loads(json.dumps(done[operation].body))
        changed["x-unknown"] = 1
        answer = tenant.http.post(done[operation].path, json=changed)
        check_error(answer, 400, "INVALID_REQUEST")
    assert done["decide"].send(tenant.http).text == first["decide"].text
    assert tenant.http.post("/v1/reservations", json=dry_body).text == dry.text
    for answer in (fresh["decide"].send(tenant.http), tenant.reserve(dry_run=True)):
        assert answer.status_code == 200
        assert (answer.json()["decision"], answer.json()["reason_code"]) == (
            "DENY",
            "TENANT_CLOSED",
        )
    check_error(tenant.commit("unknown", 1), 404, "NOT_FOUND")
    assert tenant.stored_budget() == books


def lasting(answer: httpx.Response) -> Any:
    return {
        name: value for name, value in answer.json().items() if name != "remaining_ttl_ms"
    }, answer.status_code


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '"ACTIVE"', "null", '{"status":"ACTIV"}', "{}", '{"status":["ACTIVE"]}', None],
)
def test_a_damaged_tenant_record_stops_mutations_alone(
    running: Running, tenant: Tenant, damage: str | None
) -> None:
    tenant.record()
    warm_up(tenant)
    requests = prepare_all(tenant)
    books = tenant.stored_budget()
    running.redis.delete(tenant.names.record)
    if damage is None:
        running.redis.hset(tenant.names.record, "status", "ACTIVE")
    else:
        running.redis.set(tenant.names.record, damage)
    for operation, request in requests.items():
        answer = request.send(tenant.http)
        if operation in READS:
            assert answer.is_success, answer.text
        else:
            check_error(answer, 500, "INTERNAL_ERROR")
    check_error(tenant.reserve(dry_run=True), 500, "INTERNAL_ERROR")
    assert error_of(tenant.reserve(subject={"tenant": "x"})) == (403, "FORBIDDEN")
    assert tenant.stored_budget() == books
    # A key that the server has not seen yet meets the same.
    newcomer = {"X-Cycles-API-Key": tenant.new_key()}
    assert tenant.http.get("/v1/reservations", headers=newcomer).is_success
    body = tenant.reserve_body(idempotency_key=new_key())
    answer = tenant.http.post("/v1/reservations", json=body, headers=newcomer)
    check_error(answer, 500, "INTERNAL_ERROR")
