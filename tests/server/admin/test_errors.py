"""Errors of the admin plane: their shape and ids, and that each leaves its audit entry."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from support.audit import BY_OPERATOR, refusal_entry
from support.edges import HEX32, check_ids, send_bytes
from support.operator import Operator
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import error_of

from cycles_server.contract.document import load_contract
from cycles_server.contract.schemas import SchemaCompiler

TENANTS, BUDGETS = "/v1/admin/tenants", "/v1/admin/budgets"
TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "b7ad6b7169203331"
CONTRACT = load_contract("cycles-governance-admin.yaml").document
ERROR = SchemaCompiler(CONTRACT).compile({"$ref": "#/components/schemas/ErrorResponse"})
GOOD = {"tenant_id": "never-made", "name": "x"}


def check(operator: Operator, answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """An answer is this error in the contract's shape, and is told of; returns its body."""
    assert error_of(answer) == (status, code), answer.text
    body: dict[str, Any] = answer.json()
    assert ERROR.is_valid(body), ERROR.violation(body)
    assert answer.headers["content-type"] == "application/json"
    check_ids(answer)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["trace_id"] == answer.headers["x-cycles-trace-id"]
    entry = refusal_entry(operator, BY_OPERATOR, answer)
    assert (entry["status"], entry["error_code"]) == (status, code)
    assert entry["trace_id"] == body["trace_id"]
    return body


def test_the_plane_has_its_own_headers(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    tenant.write_key(permissions=["budgets:read"])
    query = {"scope": f"tenant:{tenant.name}", "unit": "TOKENS"}
    for answer in (
        tenant.http.get(f"{BUDGETS}/lookup", params=query),
        tenant.http.get(f"{BUDGETS}/lookup"),
        operator.http.get(f"{TENANTS}/{tenant.name}"),
        httpx.get(f"{operator.url}{TENANTS}/x"),
    ):
        check_ids(answer)
        odd = ("x-cycles-tenant", "x-ratelimit")
        assert not [name for name in answer.headers if name.startswith(odd)]


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, TRACE),
        ({"X-Cycles-Trace-Id": OTHER, "traceparent": f"00-{TRACE}-{SPAN}-00"}, TRACE),
        ({"X-Cycles-Trace-Id": OTHER}, OTHER),
        ({"X-Cycles-Trace-Id": OTHER, "traceparent": "00-x"}, OTHER),
        ({"traceparent": f"01-{TRACE}-{SPAN}-01"}, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, None),
        ({"X-Cycles-Trace-Id": TRACE.upper()}, None),
        ({"X-Cycles-Trace-Id": "0" * 32}, None),
        ({}, None),
    ],
)
def test_traces(operator: Operator, headers: dict[str, str], trace: str | None) -> None:
    tenant = operator.tenant()
    read = operator.http.get(f"{TENANTS}/{tenant.name}", headers=headers)
    refused = operator.http.get(f"{TENANTS}/nobody-here", headers=headers)
    check(operator, refused, 404, "TENANT_NOT_FOUND")
    for answer in (read, refused):
        told = answer.headers["x-cycles-trace-id"]
        if trace is None:
            assert HEX32.fullmatch(told)
            assert told not in (TRACE, OTHER)
        else:
            assert told == trace


def test_a_clients_request_id_is_its_own(operator: Operator) -> None:
    """Ids of requests are the server's: what a client sends may be anything."""
    sent = "x" * 300
    refused = operator.http.get(f"{TENANTS}/nobody-here", headers={"X-Request-Id": sent})
    check(operator, refused, 404, "TENANT_NOT_FOUND")
    assert refused.headers["x-request-id"] != sent


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "half": b"{",
    "an array": b"[]",
    "null": b"null",
    "text behind it": json.dumps(GOOD).encode() + b" {}",
    "a member twice": b'{"tenant_id":"never-made","tenant_id":"never-made","name":"x"}',
    "not UTF-8": b'{"tenant_id":"never-made","name":"\xff"}',
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "deep": b'{"tenant_id":"never-made","name":"x","metadata":'
    + b"[" * 2_000
    + b"]" * 2_000
    + b"}",
    "an unknown member": b'{"tenant_id":"never-made","name":"x","colour":1}',
    "NaN": b'{"tenant_id":"never-made","name":"x","max_reservation_extensions":NaN}',
}


@pytest.mark.parametrize("body", BODIES)
def test_bodies(operator: Operator, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    refused = operator.http.post(TENANTS, content=BODIES[body], headers=headers)
    message = check(operator, refused, 400, "INVALID_REQUEST")["message"]
    if "member" in body:
        assert ("colour" if "unknown" in body else "tenant_id") in message
    assert operator.http.get(f"{TENANTS}/never-made").status_code == 404


@pytest.mark.parametrize("media", ["text/plain", None, "application/x-www-form-urlencoded"])
def test_other_media(operator: Operator, media: str | None) -> None:
    headers = {} if media is None else {"Content-Type": media}
    refused = operator.http.post(TENANTS, content=json.dumps(GOOD), headers=headers)
    assert refused.status_code in (400, 415)
    check(operator, refused, refused.status_code, "INVALID_REQUEST")


WITH_BODY = [
    (method, re.sub(r"\{.*?\}", "nobody", path))
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
    if isinstance(operation, dict) and "requestBody" in operation
]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_whatever_the_operation_a_body_is_one_json_object(
    operator: Operator, method: str, path: str
) -> None:
    assert len(WITH_BODY) >= 14
    query = {"scope": "tenant:nobody", "unit": "TOKENS", "tenant_id": "nobody"}
    json_type = "application/json"
    for media, body in (
        (json_type, "{} x"),
        (json_type, '{"name":"a","name":"b"}'),
        (json_type, "[]"),
        ("text/plain", "{}"),
    ):
        answer = operator.http.request(
            method, path, params=query, content=body, headers={"content-type": media}
        )
        check(operator, answer, 400, "INVALID_REQUEST")


def test_what_is_asked_for_is_json(operator: Operator) -> None:
    name = operator.tenant().name
    body = json.dumps({"tenant_id": name, "name": "-"})
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = operator.http.post(TENANTS, content=body, headers=headers)
    assert error_of(answer) == (409, "DUPLICATE_RESOURCE")
    xml = operator.http.get(f"{TENANTS}/{name}", headers={"Accept": "application/xml"})
    assert xml.json()["tenant_id"] == name


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/admin/nope",
        f"{TENANTS}/acme/",
        f"{TENANTS}//acme",
        f"{TENANTS}/a%2Fb",
        f"{TENANTS}/a%2fb",
        "/v1/balances/x",
        "/v1/reservations",
    ],
)
def test_paths_that_there_are_not(operator: Operator, path: str) -> None:
    check(operator, operator.http.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", ["acme;x=y", "..%00", "%20", "%E2%80%AE", "x" * 300])
def test_odd_names_are_nobodys(operator: Operator, name: str) -> None:
    refused = operator.http.get(f"{TENANTS}/{name}")
    assert refused.status_code in (400, 404)
    check(operator, refused, refused.status_code, refused.json()["error"])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"{TENANTS}/x", {"GET", "PATCH"}),
        (f"{BUDGETS}/fund", {"POST"}),
        (f"{BUDGETS}/freeze", {"POST"}),
        ("/v1/admin/audit/logs", {"GET"}),
    ],
)
def test_methods(operator: Operator, path: str, allowed: set[str]) -> None:
    for method in ("DELETE", "PUT", "OPTIONS", "TRACE", "PURGE"):
        refused = operator.http.request(method, path)
        check(operator, refused, 405, "INVALID_REQUEST")
        assert set(refused.headers["allow"].split(", ")) == allowed


def test_heads_are_told_of_too(operator: Operator) -> None:
    refused = operator.http.head(f"{TENANTS}/x")
    assert (refused.status_code, refused.content) == (405, b"")
    assert refusal_entry(operator, BY_OPERATOR, refused)["operation"] == f"HEAD:{TENANTS}/x"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({}, "scope"),
        ({"scope": "tenant:a"}, "unit"),
        ({"unit": "TOKENS"}, "scope"),
        ({"scope": "tenant:a", "unit": "SHELLS"}, "unit"),
    ],
)
def test_parameters_are_named(operator: Operator, query: dict[str, str], named: str) -> None:
    refused = operator.http.get(f"{BUDGETS}/lookup", params=query)
    assert named in check(operator, refused, 400, "INVALID_REQUEST")["message"]


def test_a_bad_member_is_named(operator: Operator) -> None:
    refused = operator.http.post(TENANTS, json={"tenant_id": "A B", "name": ""})
    message = check(operator, refused, 400, "INVALID_REQUEST")["message"]
    assert "tenant_id" in message or "name" in message


def test_bodies_that_break_off_or_are_too_long(operator: Operator, admin: CyclesServer) -> None:
    head = (
        f"POST {TENANTS} HTTP/1.1\r\nHost: t\r\nX-Admin-API-Key: {ADMIN_KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    )
    check(operator, send_bytes(admin.port, head.encode()), 413, "INVALID_REQUEST")


@pytest.mark.parametrize("value", ["4.260025182060489e+16", "1e300", "123456789012345678901", "-0"])
@pytest.mark.parametrize("shape", ["%s", "[%s]", '[{"a":%s}]'])
def test_numbers_in_the_place_of_an_open_object(operator: Operator, value: str, shape: str) -> None:
    tenant = operator.tenant()
    path = f"/v1/admin/api-keys/{tenant.key_id}"
    body = b'{"metadata":%s}' % (shape % value).encode()
    headers = {"Content-Type": "application/json"}
    refused = operator.http.patch(path, content=body, headers=headers)
    assert "metadata" in check(operator, refused, 400, "INVALID_REQUEST")["message"]
    kept = operator.http.patch(path, content=b'{"metadata":{"a":%s}}' % body, headers=headers)
    assert kept.status_code == 200
    assert value in kept.text
