"""The operators' dashboard runs in a browser, on an origin of its own: it may call every path, and
read every answer, errors included. Pages of other origins are told nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.edges import check_ids, send_bytes
from support.operator import Operator
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import error_of

DASHBOARD = "http://localhost:5173"
OTHERS = (
    *("http://localhost:5174", "https://localhost:5173", "http://localhost:5173.example"),
    *("http://LOCALHOST:5173", "null", "*", "", f"{DASHBOARD}, {DASHBOARD}"),
)
EXPOSED = {"X-Request-Id", "X-Cycles-Trace-Id", "X-Cycles-Cascade-Status", "Retry-After"}
ASKED = "x-admin-api-key, content-type"
TENANTS = "/v1/admin/tenants"
PATHS = (
    *(TENANTS, f"{TENANTS}/acme", f"{TENANTS}/bulk-action", "/v1/admin/overview"),
    *("/v1/admin/budgets/fund", "/v1/admin/audit/logs", "/v1/auth/introspect", "/v1/balances"),
    *("/v1/admin/webhooks", "/actuator/health/liveness", "/nowhere"),
)
KEY = {"X-Admin-API-Key": ADMIN_KEY}

Call = tuple[str, str, dict[str, Any]]
CALLS: dict[int, Call] = {
    200: ("GET", TENANTS, {"headers": KEY}),
    400: ("POST", TENANTS, {"headers": KEY, "json": {"tenant_id": "A"}}),
    401: ("GET", TENANTS, {}),
    404: ("GET", f"{TENANTS}/nobody-here", {"headers": KEY}),
    405: ("PUT", TENANTS, {"headers": KEY}),
    413: ("POST", TENANTS, {"headers": {**KEY, "Content-Length": "99999999"}}),
}


@pytest.fixture
def ask(admin: CyclesServer, operator: Operator) -> Any:
    """Make one of CALLS as a browser does for a page of an origin."""

    def ask(status: int, origin: str | None) -> httpx.Response:
        method, path, more = CALLS[status]
        headers = {**more.get("headers", {}), **({} if origin is None else {"Origin": origin})}
        rest = {name: value for name, value in more.items() if name != "headers"}
        if status == 413:  # a client that does not send what it says
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = [f"{method} {path} HTTP/1.1", "Host: t", "Content-Type: application/json"]
            answer = send_bytes(admin.port, "\r\n".join([*head, *lines, "", ""]).encode())
        else:
            answer = httpx.request(method, admin.url + path, headers=headers, **rest)
        assert answer.status_code == status, answer.text
        return answer

    return ask


def check_readable(answer: httpx.Response) -> None:
    assert answer.headers["access-control-allow-origin"] == DASHBOARD
    assert set(answer.headers["access-control-expose-headers"].split(", ")) == EXPOSED
    assert answer.headers["vary"] == "Origin"


def check_not_readable(answer: httpx.Response) -> None:
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    # For another origin the answer would have been another: a cache must know.
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("status", CALLS)
def test_the_dashboard_reads_every_answer(ask: Any, status: int) -> None:
    answer = ask(status, DASHBOARD)
    check_readable(answer)
    check_ids(answer)
    if status >= 400:
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("status", CALLS)
def test_nobody_else_does(ask: Any, status: int) -> None:
    for origin in (None, *OTHERS):
        check_not_readable(ask(status, origin))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_preflights(admin: CyclesServer, path: str, method: str) -> None:
    asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED}
    yes = httpx.options(admin.url + path, headers={"Origin": DASHBOARD, **asks})
    assert (yes.status_code, yes.content) == (200, b"")
    check_readable(yes)
    check_ids(yes)
    assert method in yes.headers["access-control-allow-methods"].split(", ")
    assert yes.headers["access-control-allow-headers"] == ASKED
    no = httpx.options(admin.url + path, headers={"Origin": OTHERS[0], **asks})
    assert error_of(no) == (403, "FORBIDDEN")
    check_not_readable(no)
    check_ids(no)


def test_a_preflight_that_asks_for_no_header(admin: CyclesServer) -> None:
    asks = {"Origin": DASHBOARD, "Access-Control-Request-Method": "GET"}
    yes = httpx.options(admin.url + TENANTS, headers=asks)
    assert yes.status_code == 200
    assert "access-control-allow-headers" not in yes.headers


def test_headers_that_no_page_can_ask_for(admin: CyclesServer) -> None:
    asks = f"OPTIONS {TENANTS} HTTP/1.1\r\nHost: t\r\nOrigin: {DASHBOARD}\r\n"
    asks += "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: \u20ac\r\n\r\n"
    yes = send_bytes(admin.port, asks.encode())
    assert yes.status_code == 200
    assert "access-control-allow-headers" not in yes.headers


def test_options_of_which_nobody_asks_a_method(admin: CyclesServer) -> None:
    answer = httpx.options(admin.url + TENANTS, headers={"Origin": DASHBOARD})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    check_readable(answer)


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (400, "Origin: {}\r\nHost: a b\r\n\r\n"),
        (400, "Host: t\r\nOrigin: {}\r\nHost: t\r\n\r\n"),
        (431, "Host: t\r\nOrigin: {}\r\nX-Long: " + "x" * 100_000 + "\r\n\r\n"),
    ],
)
def test_what_is_no_request(admin: CyclesServer, status: int, lines: str) -> None:
    def send(origin: str) -> httpx.Response:
        head = f"GET {TENANTS} HTTP/1.1\r\n" + lines.format(origin)
        answer = send_bytes(admin.port, head.encode())
        assert answer.status_code == status, answer.text
        return answer

    check_readable(send(DASHBOARD))
    check_not_readable(send(OTHERS[0]))


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/admin/webhooks", "/v1/admin/webhooks/whsub_1", "/v1/admin/webhooks/whsub_1/test"),
        *("/v1/admin/events", "/v1/admin/events/evt_1", "/v1/webhooks", "/v1/events"),
        *("/v1/admin/config/webhook-security", "/v1/reservations"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_plane_does_not_have(admin: CyclesServer, method: str, path: str) -> None:
    headers = {"Origin": DASHBOARD, **KEY}
    answer = httpx.request(method, admin.url + path, headers=headers)
    assert error_of(answer) == (404, "NOT_FOUND")
    assert answer.json().keys() == {"error", "message", "request_id", "trace_id"}
    check_readable(answer)
