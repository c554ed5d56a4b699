"""Every refused call and every failed authentication leaves one entry, and no secret in it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.audit import BY_OPERATOR, UNAUTHENTICATED, entries_of, refusal_entry, tenant_at
from support.metrics import metric
from support.operator import Operator
from support.running import StartServer
from support.server import ADMIN_KEY
from support.tenants import error_of
from support.wire import eventually

DAY_MS = 86_400_000
TENANTS, BUDGETS = "/v1/admin/tenants", "/v1/admin/budgets"
CALLERS: dict[str, dict[str, str]] = {
    "nobody": {},
    "a blank key": {"X-Admin-API-Key": ""},
    "a wrong operator's key": {"X-Admin-API-Key": "wrong-operator-secret"},
    "an unknown key": {"X-Cycles-API-Key": f"cyc_live_{'x' * 32}"},
}


@pytest.fixture
def stranger(operator: Operator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=operator.url, timeout=30) as client:
        yield client


def told(entry: dict[str, Any]) -> tuple[str, int, str]:
    return entry["operation"], entry["status"], entry["error_code"]


@pytest.mark.parametrize("caller", CALLERS)
def test_a_failed_authentication(operator: Operator, stranger: httpx.Client, caller: str) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Cycles-Trace-Id": trace, "User-Agent": "probe/1", **CALLERS[caller]}
    refused = stranger.get(
        f"{BUDGETS}/lookup", params={"scope": "tenant:a", "unit": "TOKENS"}, headers=headers
    )
    assert error_of(refused) == (401, "UNAUTHORIZED")
    entry = refusal_entry(operator, UNAUTHENTICATED, refused)
    left = operator.redis.pttl(operator.keys.tenant("").audit_entry(entry["log_id"]))
    assert 29 * DAY_MS < left <= 30 * DAY_MS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("timestamp"))
    assert entry == {
        "log_id": entry["log_id"],
        "tenant_id": UNAUTHENTICATED,
        "user_agent": "probe/1",
        "source_ip": "127.0.0.1",
        "operation": "lookupBudget",
        "error_code": "UNAUTHORIZED",
        "request_id": refused.headers["x-request-id"],
        "trace_id": trace,
        "status": 401,
        "metadata": {
            "method": "GET",
            "path": f"{BUDGETS}/lookup",
            "message": refused.json()["message"],
        },
    }


def test_keys_that_were_good_once_are_nobody(operator: Operator) -> None:
    tenant = tenant_at(operator, ["admin:read"])
    operator.budget(tenant)
    assert operator.of_budget("GET", "/lookup", tenant).status_code == 200
    look = {"scope": f"tenant:{tenant.name}", "unit": "TOKENS"}
    assert tenant.http.get(f"{BUDGETS}/lookup", params=look).status_code == 200
    tenant.record(status="SUSPENDED")
    suspended = tenant.http.get(f"{BUDGETS}/lookup", params=look)
    tenant.record()
    tenant.write_key(status="REVOKED")
    revoked = tenant.http.get(f"{BUDGETS}/lookup", params=look)
    for refused in (suspended, revoked):
        assert error_of(refused) == (401, "UNAUTHORIZED")
        entry = refusal_entry(operator, UNAUTHENTICATED, refused)
        assert "key_id" not in entry
        assert entries_of(operator, tenant.name, refused) == []


@pytest.mark.parametrize(
    ("permissions", "query", "error"),
    [
        (["budgets:write"], {}, (403, "INSUFFICIENT_PERMISSIONS")),
        (["budgets:read"], {"scope": "tenant:nobody"}, (404, "BUDGET_NOT_FOUND")),
        (["budgets:read"], {"unit": "SHELLS"}, (400, "INVALID_REQUEST")),
    ],
)
def test_what_a_tenants_key_is_refused_is_its_tenants(
    operator: Operator, permissions: list[str], query: dict[str, str], error: tuple[int, str]
) -> None:
    """A missing permission too: the call was authenticated."""
    tenant = tenant_at(operator, permissions)
    params = {"scope": f"tenant:{tenant.name}", "unit": "TOKENS", **query}
    refused = tenant.http.get(f"{BUDGETS}/lookup", params=params)
    assert error_of(refused) == error
    entry = refusal_entry(operator, tenant.name, refused)
    assert entry["tenant_id"] == tenant.name
    assert entry["key_id"] == tenant.key_id
    assert told(entry) == ("lookupBudget", *error)
    left = operator.redis.pttl(tenant.names.audit_entry(entry["log_id"]))
    assert 399 * DAY_MS < left <= 400 * DAY_MS


def test_scope_filters(operator: Operator) -> None:
    tenant = tenant_at(operator, ["budgets:read"])
    tenant.write_key(scope_filter=["agent:a"])
    params = {"scope": f"tenant:{tenant.name}/agent:b", "unit": "TOKENS"}
    refused = tenant.http.get(f"{BUDGETS}/lookup", params=params)
    assert error_of(refused) == (403, "FORBIDDEN")
    assert told(refusal_entry(operator, tenant.name, refused)) == ("lookupBudget", 403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("method", "path", "operation", "error"),
    [
        ("GET", f"{TENANTS}/nobody-here", "getTenant", (404, "TENANT_NOT_FOUND")),
        ("POST", TENANTS, "createTenant", (400, "INVALID_REQUEST")),
        ("GET", f"{BUDGETS}/lookup", "lookupBudget", (400, "INVALID_REQUEST")),
        ("GET", "/v1/admin/audit/logs?limit=x", "listAuditLogs", (400, "INVALID_REQUEST")),
        ("GET", "/v1/admin/nope", "GET:/v1/admin/nope", (404, "NOT_FOUND")),
        ("GET", f"{TENANTS}/a%2Fb", f"GET:{TENANTS}/a/b", (404, "NOT_FOUND")),
        ("DELETE", TENANTS, f"DELETE:{TENANTS}", (405, "INVALID_REQUEST")),
        ("OPTIONS", TENANTS, f"OPTIONS:{TENANTS}", (405, "INVALID_REQUEST")),
    ],
)
def test_what_the_operator_is_refused(
    operator: Operator, method: str, path: str, operation: str, error: tuple[int, str]
) -> None:
    refused = operator.http.request(method, path)
    assert error_of(refused) == error
    entry = refusal_entry(operator, BY_OPERATOR, refused)
    assert entry["tenant_id"] == BY_OPERATOR
    assert told(entry) == (operation, *error)
    assert "key_id" not in entry
    assert "resource_type" not in entry
    left = operator.redis.pttl(operator.keys.tenant("").audit_entry(entry["log_id"]))
    assert 399 * DAY_MS < left <= 400 * DAY_MS


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/admin/nope"), ("DELETE", TENANTS)])
def test_paths_and_methods_that_there_are_not_need_no_key(
    operator: Operator, stranger: httpx.Client, method: str, path: str
) -> None:
    refused = stranger.request(method, path)
    entry = refusal_entry(operator, UNAUTHENTICATED, refused)
    assert entry["operation"] == f"{method}:{path}"
    assert entry["status"] == refused.status_code


def test_with_two_good_keys_the_operators_decides(operator: Operator) -> None:
    tenant = tenant_at(operator, [])
    both = {"X-Cycles-API-Key": tenant.secret}
    refused = operator.http.get(f"{BUDGETS}/lookup", headers=both)
    refusal_entry(operator, BY_OPERATOR, refused)
    assert entries_of(operator, tenant.name, refused) == []


def test_what_was_sent_is_one_bounded_line(operator: Operator) -> None:
    path = "/v1/admin/" + "%0d%0a%E2%80%AE" + "x" * 3_000
    refused = operator.http.get(path, headers={"User-Agent": "a" * 3_000})
    entry = refusal_entry(operator, BY_OPERATOR, refused)
    assert entry["operation"] == f"GET:/v1/admin/   {'x' * 3_000}"[:256]
    assert entry["metadata"]["path"] == f"/v1/admin/   {'x' * 3_000}"[:1024]
    assert entry["user_agent"] == "a" * 512
    huge = operator.http.post(TENANTS, json={"tenant_id": "ok-id", "name": ["\r\n" * 2_000]})
    message = refusal_entry(operator, BY_OPERATOR, huge)["metadata"]["message"]
    assert len(message) <= 1024
    assert message.isprintable()


def test_no_entry_holds_a_secret(operator: Operator, stranger: httpx.Client) -> None:
    tenant = tenant_at(operator, [])
    hashed = tenant.key_record["key_hash"]
    wrong = f"cyc_live_{'w' * 32}"
    # Others make them with the signs of base64; what stands behind one is a part of the secret.
    foreign = [f"cyc_live_ab-cd_{'z' * 20}", f"whsec_abcdefgh/+-{'z' * 20}="]
    presented = (tenant.secret, wrong, ADMIN_KEY, hashed, "wrong-operator-secret", "z" * 20)
    refused = [
        stranger.get(TENANTS + "/x", headers={"X-Admin-API-Key": "wrong-operator-secret"}),
        stranger.get(f"{BUDGETS}/lookup", headers={"X-Cycles-API-Key": wrong}),
        tenant.http.get(f"{BUDGETS}/lookup", headers={"User-Agent": f"cli {tenant.secret}"}),
        *(operator.http.get(f"{TENANTS}/{secret}") for secret in (tenant.secret, ADMIN_KEY)),
        *(operator.http.get(f"/v1/admin/{secret}") for secret in (tenant.secret, ADMIN_KEY)),
        operator.http.post(TENANTS, json={"tenant_id": "ok-id", "name": {"key": tenant.secret}}),
        operator.http.post(TENANTS, json={"tenant_id": "ok-id", "name": [hashed]}),
        *(operator.http.get(f"{TENANTS}/{secret}") for secret in foreign),
        *(operator.http.delete(f"/v1/admin/api-keys/{secret}") for secret in foreign),
    ]
    for answer in refused:
        assert answer.is_error
        found = [
            entry
            for owner in (UNAUTHENTICATED, BY_OPERATOR, tenant.name)
            for entry in entries_of(operator, owner, answer)
        ]
        assert len(found) == 1
        text = json.dumps(found, ensure_ascii=False)
        assert [secret for secret in presented if secret in text] == []


def test_a_failure_tells_what_the_client_was_told(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.redis.set(tenant.names.record, "{")
    failed = operator.http.get(f"{TENANTS}/{tenant.name}")
    assert error_of(failed) == (500, "INTERNAL_ERROR")
    entry = refusal_entry(operator, BY_OPERATOR, failed)
    assert told(entry) == ("getTenant", 500, "INTERNAL_ERROR")
    assert entry["metadata"]["message"] == failed.json()["message"]
    tenant.record()


def test_pages_and_preflights_leave_none(operator: Operator, stranger: httpx.Client) -> None:
    def count() -> int:
        names = operator.keys.tenant(UNAUTHENTICATED)
        number: int = operator.redis.zcard(names.audit_tenant_index)
        return number

    before = count()
    asks = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "GET"}
    assert stranger.options(TENANTS, headers=asks).status_code == 200
    asks["Origin"] = "http://elsewhere.example"
    assert stranger.options(TENANTS, headers=asks).status_code == 403
    assert stranger.get("/actuator/health/liveness").status_code == 200
    for path in ("/actuator/prometheus", "/actuator/nope", "/api-docs", "/swagger-ui.html"):
        assert stranger.get(path).is_error
    assert count() == before


def test_the_runtime_plane_leaves_none(operator: Operator, running: Any) -> None:
    refused = httpx.get(f"{running.url}/v1/balances")
    assert refused.status_code == 401
    assert entries_of(operator, UNAUTHENTICATED, refused) == []


# -- settings, and stores that fail --------------------------------------------------------------


def own_operator(start: StartServer, **settings: str) -> tuple[Operator, Any]:
    running = start(arguments=("admin",), **settings)
    return Operator(running.redis, running.url), running


def unauthenticated(operator: Operator) -> int:
    return len(operator.audit(UNAUTHENTICATED))


def test_entries_of_strangers_may_be_sampled(start: StartServer) -> None:
    operator, _ = own_operator(start, AUDIT_SAMPLE_UNAUTHENTICATED="2")
    with httpx.Client(base_url=operator.url) as stranger:
        for _ in range(200):
            assert stranger.get(TENANTS + "/x").status_code == 401
    # 100 are to be expected; farther off is once in 10^12.
    assert 50 <= unauthenticated(operator) <= 150
    for _ in range(20):
        assert operator.http.get(TENANTS + "/nobody-here").status_code == 404
    assert len(operator.audit(BY_OPERATOR)) == 20


def test_entries_may_be_kept_for_ever(start: StartServer) -> None:
    operator, running = own_operator(
        start,
        AUDIT_RETENTION_UNAUTHENTICATED_DAYS="0",
        AUDIT_RETENTION_AUTHENTICATED_DAYS="7",
    )
    running.store.may_stay = {"audit:log:.+": "kept for ever"}
    httpx.get(f"{operator.url}{TENANTS}/x")
    operator.http.get(f"{TENANTS}/nobody-here")
    lives = [
        operator.redis.pttl(operator.keys.tenant("").audit_entry(entry["log_id"]))
        for owner in (UNAUTHENTICATED, BY_OPERATOR)
        for entry in operator.audit(owner)
    ]
    assert lives[0] == -1
    assert 6 * DAY_MS < lives[1] <= 7 * DAY_MS


def lost(running: Any) -> float:
    return metric(running.url, "cycles_audit_entries_lost_total")


def test_an_entry_that_cannot_be_written_is_counted(start: StartServer) -> None:
    operator, running = own_operator(start)
    names = operator.keys.tenant(UNAUTHENTICATED)
    operator.redis.set(names.audit_tenant_index, "no index", ex=600)
    refused = httpx.get(f"{operator.url}{TENANTS}/x")
    assert error_of(refused) == (401, "UNAUTHORIZED")
    assert lost(running) == 1
    assert refused.headers["x-request-id"] in running.server.log.read_text()
    operator.redis.delete(names.audit_tenant_index)
    httpx.get(f"{operator.url}{TENANTS}/x")
    assert lost(running) == 1
    assert unauthenticated(operator) == 1


def test_a_store_that_hangs_holds_up_no_refusal(start: StartServer) -> None:
    operator, running = own_operator(
        start, REDIS_POOL_MAX_WAIT_MS="60000", AUTH_FAILURE_RATE_LIMIT_ENABLED="true"
    )
    running.store.pause()
    # Its own patience would be a minute.
    refused = httpx.get(f"{operator.url}{TENANTS}/x", timeout=20)
    assert error_of(refused) == (401, "UNAUTHORIZED")
    running.store.resume()
    eventually(lambda: len(entries_of(operator, UNAUTHENTICATED, refused)) == 1)
    assert lost(running) == 0


def test_a_store_that_is_gone(start: StartServer) -> None:
    operator, running = own_operator(start, REDIS_POOL_MAX_WAIT_MS="1000")
    running.store.kill()
    refused = httpx.get(f"{operator.url}{TENANTS}/x", timeout=20)
    failed = operator.http.get(f"{TENANTS}/{uuid.uuid4().hex}")
    assert error_of(refused) == (401, "UNAUTHORIZED")
    assert error_of(failed) == (500, "INTERNAL_ERROR")
    running.store.start()
    eventually(lambda: lost(running) == 2)
