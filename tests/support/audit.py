"""The audit log as it is stored, and entries put there by hand."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx

from cycles_server.auth.records import iso_instant
from support.operator import Body, Operator
from support.tenants import Tenant

PATH = "/v1/admin/audit/logs"
BY_OPERATOR, UNAUTHENTICATED = "__admin__", "__unauth__"
T0 = 1_780_000_000_000
"""Epoch ms of entries that are put by hand; 2026-05-28T20:26:40Z."""
_KEPT_S = 3600


def entries_of(operator: Operator, owner: str, answer: httpx.Response) -> list[Body]:
    """The entries that a request left under an owner."""
    request_id = answer.headers["x-request-id"]
    return [entry for entry in operator.audit(owner) if entry["request_id"] == request_id]


def refusal_entry(operator: Operator, owner: str, answer: httpx.Response) -> Body:
    """The one entry of a refused request, in every index it belongs to and in no other."""
    assert answer.is_error
    (entry,) = entries_of(operator, owner, answer)
    for other in {BY_OPERATOR, UNAUTHENTICATED} - {owner}:
        assert entries_of(operator, other, answer) == []
    names = operator.keys.tenant(owner)
    assert operator.redis.zscore(names.audit_index, entry["log_id"]) is not None
    return entry


class Log:
    """Entries of a tenant of its own, as they are stored."""

    def __init__(self, operator: Operator, tenant: str = "") -> None:
        self.operator = operator
        self.tenant = tenant or f"t-{uuid.uuid4().hex[:10]}"
        self.names = operator.keys.tenant(self.tenant)

    def put(self, at_ms: int = T0, *, stored: str | None = None, **members: Any) -> str:
        """Write an entry and its places; returns its id. A member that is ``...`` is left out."""
        log_id = f"log_{uuid.uuid4().hex[:16]}"
        entry = {
            "log_id": log_id,
            "timestamp": iso_instant(at_ms),
            "tenant_id": self.tenant,
            "operation": "fundBudget",
            "status": 200,
            **members,
        }
        text = json.dumps({name: value for name, value in entry.items() if value is not ...})
        redis = self.operator.redis
        redis.set(self.names.audit_entry(log_id), text if stored is None else stored, ex=_KEPT_S)
        self.point(log_id, at_ms)
        return log_id

    def point(self, log_id: str, at_ms: int) -> None:
        """Only the places of an entry."""
        self.operator.redis.zadd(self.names.audit_tenant_index, {log_id: at_ms})
        self.operator.redis.zadd(self.names.audit_index, {log_id: at_ms})

    def ask(self, **query: Any) -> httpx.Response:
        """``from_`` stands for ``from``."""
        params = {"tenant_id": self.tenant, **query}
        return self.operator.http.get(
            PATH, params={name.rstrip("_"): value for name, value in params.items()}
        )

    def found(self, **query: Any) -> list[str]:
        """The ids on a page that is the last."""
        answer = self.ask(**query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["has_more"] is False
        assert "next_cursor" not in answer.json()
        return [entry["log_id"] for entry in answer.json()["logs"]]

    def pages(self, **query: Any) -> list[list[str]]:
        """The ids of all pages, one after the other."""
        pages: list[list[str]] = []
        cursor: dict[str, str] = {}
        while True:
            body = self.ask(**query, **cursor).json()
            pages.append([entry["log_id"] for entry in body["logs"]])
            assert body["has_more"] == ("next_cursor" in body)
            if not body["has_more"]:
                return pages
            cursor = {"cursor": body["next_cursor"]}


def tenant_at(operator: Operator, permissions: list[str]) -> Tenant:
    """A tenant whose key may do so much; its calls go to the admin plane."""
    tenant = operator.tenant()
    tenant.write_key(permissions=permissions)
    return tenant
