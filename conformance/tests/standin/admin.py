"""A stand-in for a server's governance API: takes only valid requests, and keeps what they made."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from jsonschema import Draft202012Validator, FormatChecker

ADMIN_KEY = "admin-secret"

Reply = tuple[int, dict[str, str], bytes]


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class AdminStandIn:
    """Listens on ``url`` until ``close``.

    ``faults`` lists what was wrong with requests. ``reply``, when set, answers in its place.
    """

    def __init__(self, prefix: str = "") -> None:
        self.tenants: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.budgets: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.created = 201
        self.takes_past_expiry = True
        self.reply: Callable[[str, str], Reply] | None = None
        self._prefix = prefix
        self._lock = threading.Lock()
        document = yaml.safe_load((Path(__file__).parent / "admin.yaml").read_text())
        self._rules = [
            (
                rule["method"],
                re.compile("^" + re.escape(rule["path"]).replace(r"\{id\}", "([^/]+)") + "$"),
                _validator(rule["query"], document),
                _validator(rule["body"] or {"type": "null"}, document),
                rule["path"],
            )
            for rule in document["requests"]
        ]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, key: str | None, raw: bytes) -> Reply:
        if self.reply is not None:
            return self.reply(method, target)
        try:
            with self._lock:
                status, body = self._act(method, target, key, raw)
        except Refusal as refusal:
            status = refusal.status
            body = {"error": refusal.code, "message": str(refusal), "request_id": "r1"}
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def _act(self, method: str, target: str, key: str | None, raw: bytes) -> tuple[int, Any]:
        if key != ADMIN_KEY:
            raise Refusal(401, "UNAUTHORIZED", "no valid admin key")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = json.loads(raw) if raw else None
        path = parts.path.removeprefix(self._prefix)
        self.requests.append((method, path, query, body))
        for rule_method, pattern, query_rule, body_rule, name in self._rules:
            match = pattern.match(path)
            if method == rule_method and match:
                for what, rule, value in (("query", query_rule, query), ("body", body_rule, body)):
                    for error in rule.iter_errors(value):
                        self.faults.append(f"{method} {path} {what}: {error.message}")
                if self.faults:
                    raise Refusal(400, "INVALID_REQUEST", self.faults[-1])
                act = getattr(self, "_" + re.sub(r"\W+", "_", f"{method}{name[9:]}").strip("_"))
                status, answer = act(body, *match.groups(), **query)
                return status, answer
        self.faults.append(f"{method} {path}: no such operation")
        raise Refusal(404, "NOT_FOUND", "no such path")

    # -- operations --------------------------------------------------------------------------

    def _POST_tenants(self, body: Any) -> tuple[int, Any]:
        self.tenants[body["tenant_id"]] = {**body, "status": "ACTIVE"}
        return self.created, self.tenants[body["tenant_id"]]

    def _PATCH_tenants_id(self, body: Any, tenant_id: str) -> tuple[int, Any]:
        tenant = self.tenants[tenant_id]
        if tenant["status"] == "CLOSED" and body.get("status") != "CLOSED":
            raise Refusal(400, "INVALID_REQUEST", "closed for good")
        tenant.update(body)
        if tenant["status"] == "CLOSED":
            for key in self.keys.values():
                if key["tenant_id"] == tenant_id:
                    key["status"] = "REVOKED"
        return 200, tenant

    def _POST_api_keys(self, body: Any) -> tuple[int, Any]:
        self._active(body["tenant_id"])
        expiry = datetime.fromisoformat(body.get("expires_at", "9999-01-01T00:00:00Z"))
        if expiry < datetime.now(UTC) and not self.takes_past_expiry:
            raise Refusal(400, "INVALID_REQUEST", "expires_at is in the past")
        key_id, secret = f"key_{secrets.token_hex(8)}", f"cyc_live_{secrets.token_hex(16)}"
        self.keys[key_id] = {**body, "secret": secret, "status": "ACTIVE"}
        return 201, {"key_id": key_id, "key_secret": secret, "tenant_id": body["tenant_id"]}

    def _DELETE_api_keys_id(self, body: None, key_id: str, **_: str) -> tuple[int, Any]:
        if self.keys[key_id]["status"] == "REVOKED":
            raise Refusal(409, "KEY_REVOKED", "revoked already")
        self.keys[key_id]["status"] = "REVOKED"
        return 200, {"key_id": key_id, "status": "REVOKED"}

    def _POST_budgets(self, body: Any) -> tuple[int, Any]:
        self._active(body["tenant_id"])
        place = (body["scope"], body["unit"])
        if not body["scope"].startswith(f"tenant:{body['tenant_id']}"):
            raise Refusal(400, "INVALID_REQUEST", "another tenant's scope")
        if place in self.budgets:
            raise Refusal(409, "DUPLICATE_RESOURCE", "there is one already")
        self.budgets[place] = {**body, "status": "ACTIVE"}
        return 201, self.budgets[place]

    def _POST_budgets_freeze(self, body: None, scope: str, unit: str) -> tuple[int, Any]:
        return self._move(scope, unit, "ACTIVE", "FROZEN")

    def _POST_budgets_unfreeze(self, body: None, scope: str, unit: str) -> tuple[int, Any]:
        return self._move(scope, unit, "FROZEN", "ACTIVE")

    def _POST_budgets_fund(
        self, body: Any, tenant_id: str, scope: str, unit: str
    ) -> tuple[int, Any]:
        budget = self.budgets[scope, unit]
        if budget["status"] != "ACTIVE":
            raise Refusal(409, "BUDGET_FROZEN", "the budget is frozen")
        if budget["tenant_id"] != tenant_id or body["amount"]["unit"] != unit:
            raise Refusal(400, "UNIT_MISMATCH", "not this budget")
        budget.setdefault("funding", []).append((body["operation"], body["amount"]["amount"]))
        return 200, {"operation": body["operation"]}

    def _move(self, scope: str, unit: str, old: str, new: str) -> tuple[int, Any]:
        budget = self.budgets.get((scope, unit))
        if budget is None:
            raise Refusal(404, "BUDGET_NOT_FOUND", f"no {unit} at\n{scope}")
        if budget["status"] != old:
            raise Refusal(409, "INVALID_REQUEST", f"the budget is {budget['status']}")
        budget["status"] = new
        return 200, budget

    def _active(self, tenant_id: str) -> None:
        status = self.tenants[tenant_id]["status"]
        if status == "CLOSED":
            raise Refusal(409, "TENANT_CLOSED", "the tenant is closed")
        if status != "ACTIVE":
            raise Refusal(400, "INVALID_REQUEST", f"the tenant is {status}")


def _validator(schema: Any, document: Any) -> Draft202012Validator:
    return Draft202012Validator(
        {**schema, "$defs": document["$defs"]}, format_checker=FormatChecker(["date-time"])
    )


def _handler_of(standin: AdminStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = standin.answer(
                self.command, self.path, self.headers.get("X-Admin-API-Key"), raw
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at the state."""

    return Handler
