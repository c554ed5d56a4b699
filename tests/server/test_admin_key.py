"""The operator's key: what it may do for a tenant, and the entry that a release leaves."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from support.edges import BY_OPERATOR, OPERATIONS, check_error, prepare, prepare_all, send_bytes
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import Tenant, new_key

PATH = "/v1/reservations"
DAY_MS = 86_400_000
NO_TENANT = "tenant query parameter is required when using admin key authentication"


@pytest.fixture
def operator(running: Running) -> Any:
    with httpx.Client(base_url=running.url, headers={"X-Admin-API-Key": ADMIN_KEY}) as http:
        yield http


def release(
    http: httpx.Client, reservation: str, /, *, key: str = "", **members: Any
) -> httpx.Response:
    body = {"idempotency_key": key or new_key(), **members}
    return http.post(f"{PATH}/{reservation}/release", json=body)


def entries(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's audit entries, by millisecond; both indexes must tell the same time."""
    found = []
    for log_id, score in tenant.redis.zrange(
        tenant.names.audit_tenant_index, 0, -1, withscores=True
    ):
        assert tenant.redis.zscore(tenant.names.audit_index, log_id) == score
        entry = json.loads(tenant.redis.get(tenant.names.audit_entry(log_id.decode())))
        assert entry["log_id"] == log_id.decode()
        found.append(entry)
    return found


def test_a_release_leaves_one_entry(tenant: Tenant, operator: httpx.Client) -> None:
    before = tenant.amounts()
    reservation = tenant.reserved(500)
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = operator.post(
        f"{PATH}/{reservation}/release",
        json={"idempotency_key": "k", "reason": "[RUNAWAY] agent\r\nstuck\nlevel=INFO"},
        headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
    )
    assert answer.json()["status"] == "RELEASED"
    assert answer.json()["released"]["amount"] == 500
    assert tenant.amounts() == before
    [entry] = entries(tenant)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("timestamp"))
    assert entry.pop("source_ip") == "127.0.0.1"
    assert entry == {
        "log_id": entry["log_id"],
        "tenant_id": tenant.name,
        "operation": "releaseReservation",
        "resource_type": "reservation",
        "resource_id": reservation,
        "request_id": answer.headers["x-request-id"],
        "trace_id": trace,
        "status": 200,
        "metadata": {
            "actor_type": "admin_on_behalf_of",
            "reason": "[RUNAWAY] agent stuck level=INFO",
        },
    }
    left = tenant.redis.pttl(tenant.names.audit_entry(entry["log_id"]))
    assert 399 * DAY_MS < left <= 400 * DAY_MS
    # The same request again is a replay, and no second deed.
    again = operator.post(
        f"{PATH}/{reservation}/release",
        json={"idempotency_key": "k", "reason": "[RUNAWAY] agent\r\nstuck\nlevel=INFO"},
    )
    assert (again.status_code, again.text) == (200, answer.text)
    assert len(entries(tenant)) == 1


def test_no_entry_without_a_deed(tenant: Tenant, operator: httpx.Client) -> None:
    committed, released, live = tenant.reserved(), tenant.reserved(), tenant.reserved()
    assert tenant.commit(committed, 1).is_success
    assert tenant.release(released, idempotency_key="k").is_success
    check_error(release(operator, committed), 409, "RESERVATION_FINALIZED")
    check_error(release(operator, released), 409, "RESERVATION_FINALIZED")
    check_error(release(operator, released, key="k", reason="x"), 409, "IDEMPOTENCY_MISMATCH")
    check_error(release(operator, "unknown"), 404, "NOT_FOUND")
    check_error(release(operator, live, reason="x" * 257), 400, "INVALID_REQUEST")
    answer = operator.post(f"{PATH}/{live}/release", json={})
    check_error(answer, 400, "INVALID_REQUEST")
    answer = operator.post(
        f"{PATH}/{live}/release",
        json={"idempotency_key": "a"},
        headers={"X-Idempotency-Key": "b"},
    )
    check_error(answer, 400, "INVALID_REQUEST")
    tenant.record(status="CLOSED")
    check_error(release(operator, live), 409, "TENANT_CLOSED")
    tenant.redis.set(tenant.names.record, "{")
    check_error(release(operator, live), 500, "INTERNAL_ERROR")
    assert operator.get(f"{PATH}/{live}").status_code == 200
    assert operator.get(PATH, params={"tenant": tenant.name}).status_code == 200
    assert entries(tenant) == []
    tenant.record(status="SUSPENDED")
    assert release(operator, live).is_success
    [entry] = entries(tenant)
    assert entry["metadata"] == {"actor_type": "admin_on_behalf_of"}


def test_each_release_has_an_entry_of_its_own(tenant: Tenant, operator: httpx.Client) -> None:
    reservations = [tenant.reserved() for _ in range(5)]
    for reservation in reservations:
        assert release(operator, reservation).is_success
    # Two entries of one millisecond have no order between them.
    assert sorted(entry["resource_id"] for entry in entries(tenant)) == sorted(reservations)
    # What the tenant's own key does is not the operator's deed.
    assert tenant.release(tenant.reserved(), reason="mine").is_success
    assert len(entries(tenant)) == 5


@pytest.mark.parametrize(("days", "expires"), [("0", False), ("2", True)])
def test_how_long_an_entry_is_kept(start: StartServer, days: str, expires: bool) -> None:
    running = start(AUDIT_RETENTION_DAYS=days)
    tenant = running.tenant()
    tenant.budget()
    with httpx.Client(base_url=running.url, headers={"X-Admin-API-Key": ADMIN_KEY}) as http:
        assert release(http, tenant.reserved()).is_success
    [entry] = entries(tenant)
    left = running.redis.pttl(tenant.names.audit_entry(entry["log_id"]))
    assert (DAY_MS < left <= 2 * DAY_MS) if expires else left == -1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_where_the_key_counts(running: Running, tenant: Tenant, operation: str) -> None:
    requests = [prepare(tenant, operation) for _ in range(5)]
    counts = operation in BY_OPERATOR
    with httpx.Client(base_url=running.url) as nobody:
        alone = requests[0].send(nobody, X_Admin_API_Key=ADMIN_KEY)
        if counts:
            assert alone.is_success, alone.text
            assert "x-cycles-tenant" not in alone.headers
            assert alone.headers["x-ratelimit-remaining"] == "-1"
        else:
            check_error(alone, 401, "UNAUTHORIZED")
        wrong = requests[1].send(nobody, X_Admin_API_Key=ADMIN_KEY + "x")
        check_error(wrong, 401, "UNAUTHORIZED")
    beside = requests[2].send(tenant.http, X_Admin_API_Key="wrong")
    if counts:
        check_error(beside, 401, "UNAUTHORIZED")
    else:
        assert beside.is_success
    both = requests[3].send(tenant.http, X_Admin_API_Key=ADMIN_KEY)
    assert both.is_success
    assert both.headers.get("x-cycles-tenant") == (None if counts else tenant.name)
    blank = requests[4].send(tenant.http, X_Admin_API_Key="")
    assert blank.is_success
    assert blank.headers["x-cycles-tenant"] == tenant.name


def test_both_keys_and_the_operator_decides(
    running: Running, tenant: Tenant, operator: httpx.Client
) -> None:
    other = running.tenant()
    other.budget()
    reservation = other.reserved()
    tenant_key = {"X-Cycles-API-Key": tenant.secret}
    assert operator.get(f"{PATH}/{reservation}", headers=tenant_key).status_code == 200
    answer = operator.get(PATH, headers=tenant_key, params={"tenant": other.name})
    assert len(answer.json()["reservations"]) == 1
    for params in ({}, {"tenant": ""}, {"tenant": "  "}):
        unnamed = operator.get(PATH, headers=tenant_key, params=params)
        assert check_error(unnamed, 400, "INVALID_REQUEST")["message"] == NO_TENANT
    assert release(operator, reservation).is_success
    tenant.write_key(status="REVOKED")
    assert operator.get(f"{PATH}/{reservation}", headers=tenant_key).status_code == 200


def test_odd_keys(running: Running, tenant: Tenant) -> None:
    reservation = tenant.reserved()
    for value in (
        ADMIN_KEY.upper(),
        f"{ADMIN_KEY}, {ADMIN_KEY}",
        "x" * 10_000,
        "ü".encode(),
        b"\xff",
    ):
        answer = tenant.http.get(f"{PATH}/{reservation}", headers={"X-Admin-API-Key": value})
        check_error(answer, 401, "UNAUTHORIZED")
    line = f"GET {PATH}/{reservation} HTTP/1.1\r\nHost: t\r\nX-Cycles-API-Key: {tenant.secret}\r\n"
    blanks = send_bytes(running.server.port, f"{line}X-Admin-API-Key:   \r\n\r\n".encode())
    assert blanks.status_code == 200


def test_a_scope_filter_does_not_bind_the_operator(tenant: Tenant, operator: httpx.Client) -> None:
    reservation = tenant.reserved()
    tenant.write_key(scope_filter=["agent:nobody"])
    assert operator.get(PATH, params={"tenant": tenant.name}).json()["reservations"]
    assert release(operator, reservation).is_success


def test_while_no_key_is_configured(start: StartServer) -> None:
    running = start(ADMIN_API_KEY="")
    tenant = running.tenant()
    tenant.budget()
    requests = prepare_all(tenant)
    with httpx.Client(base_url=running.url) as nobody:
        for operation in BY_OPERATOR:
            for key in ("", "anything", "None"):
                answer = requests[operation].send(nobody, X_Admin_API_Key=key)
                check_error(answer, 401, "UNAUTHORIZED")
                if key:
                    answer = requests[operation].send(tenant.http, X_Admin_API_Key=key)
                    check_error(answer, 401, "UNAUTHORIZED")
    for request in requests.values():
        assert request.send(tenant.http).is_success
