"""Clients of the server and of the model: one call goes to both, and both must agree."""

from __future__ import annotations

import json
from typing import Any

import httpx
from model.ledger import LedgerModel, Outcome, Reservation, failure

from support.requests import Call, Json, reordered, with_fractions
from support.server import ADMIN_KEY

_PATHS = {
    "decide": "/v1/decide",
    "reserve": "/v1/reservations",
    "event": "/v1/events",
    "list": "/v1/reservations",
    "balances": "/v1/balances",
    "get": "/v1/reservations/{}",
    "commit": "/v1/reservations/{}/commit",
    "release": "/v1/reservations/{}/release",
    "extend": "/v1/reservations/{}/extend",
}
_READS = ("get", "list", "balances")
_ROWS = {"list": "reservations", "balances": "balances"}


class Clients:
    """Sends calls over HTTP, each tenant with several keys in turn."""

    def __init__(self, url: str, secrets: dict[str, list[str]]) -> None:
        headers = {
            tenant: [{"X-Cycles-API-Key": secret} for secret in own]
            for tenant, own in secrets.items()
        }
        self._headers = headers
        self._turn = 0
        self._http = httpx.Client(base_url=url, timeout=30)

    def send(self, call: Call, spelling: str = "plain") -> httpx.Response:
        """``spelling``: ``plain``, ``reordered``, ``spaced`` or ``fractions``, which all say the
        same."""
        path = _PATHS[call.operation].format(call.target)
        self._turn += 1
        own = self._headers[call.tenant]
        headers = dict(own[self._turn % len(own)])
        if call.by_operator:
            headers = {"X-Admin-API-Key": ADMIN_KEY}
        if call.operation in _READS:
            limit = {"limit": "200"} if call.operation in _ROWS else {}
            return self._http.get(path, params=call.filters | limit, headers=headers)
        body = call.body
        if spelling == "reordered":
            body = reordered(body)
        elif spelling == "fractions":
            body = with_fractions(body)
        if self._turn % 3 == 0:
            headers["X-Idempotency-Key"] = call.body["idempotency_key"]
        if not call.body["idempotency_key"].isascii():
            headers.pop("X-Idempotency-Key", None)
        content = json.dumps(
            body, ensure_ascii=spelling == "plain", indent=2 if spelling == "spaced" else None
        ).encode()
        headers["Content-Type"] = "application/json"
        return self._http.post(path, content=content, headers=headers)

    def close(self) -> None:
        self._http.close()


def expect(model: LedgerModel, call: Call, answer: httpx.Response) -> Outcome:
    """What the model answers; it takes a new record's id from the server's answer."""
    tenant, target, body = call.tenant, call.target, call.body
    if call.operation == "decide":
        return model.decide(tenant, body)
    if call.operation == "reserve":
        return model.reserve(tenant, body, observed_id=_id(answer, "reservation_id"))
    if call.operation == "event":
        return model.event(tenant, body, observed_id=_id(answer, "event_id"))
    if call.operation == "list":
        return model.list_reservations(tenant, call.filters)
    if call.operation == "balances":
        return model.balances(tenant, call.filters)
    if call.by_operator:
        owned: Reservation | None = model.reservations.get(target)
        if owned is None:
            return failure("NOT_FOUND")
        tenant = owned.tenant
    if call.operation == "get":
        return model.get_reservation(tenant, target)
    settle = {"commit": model.commit, "release": model.release, "extend": model.extend}
    return settle[call.operation](tenant, target, body)


def check_answer(call: Call, answer: httpx.Response, expected: Outcome) -> None:
    """Demand that the server's answer is the model's."""
    got: Json = answer.json()
    context = f"\n{call}\nserver: {answer.status_code} {got}\nmodel:  {expected}"
    assert answer.status_code == expected.status, context
    if expected.error is not None:
        wanted = expected.body.get("details")
        assert got["error"] == expected.error, context
        assert wanted is None or got["details"] == wanted, context
        return
    body = dict(expected.body)
    if call.operation in _ROWS:
        assert got.pop("has_more") is False, context
    if call.operation == "list":
        # Without a sort key the order is the server's own.
        for rows in (got, body):
            rows["reservations"] = sorted(rows["reservations"], key=_row_id)
    assert _canonical(got) == _canonical(body), context


def _id(answer: httpx.Response, member: str) -> str | None:
    value = answer.json().get(member)
    return value if isinstance(value, str) else None


def _row_id(row: Json) -> str:
    return str(row["reservation_id"])


def _canonical(value: Any) -> str:
    """Exact and strict: neither 5 and 5.0 nor 1 and true are the same."""
    return json.dumps(value, sort_keys=True)
