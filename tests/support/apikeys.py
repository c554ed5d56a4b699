"""What an operator does to API keys, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from support.operator import Body, Operator
from support.tenants import Tenant

PATH = "/v1/admin/api-keys"


def create(operator: Operator, tenant: Tenant, **members: Any) -> httpx.Response:
    return operator.http.post(PATH, json={"tenant_id": tenant.name, "name": "bot", **members})


def made(operator: Operator, tenant: Tenant, **members: Any) -> Body:
    answer = create(operator, tenant, **members)
    assert answer.status_code == 201, answer.text
    body: Body = answer.json()
    return body


def update(operator: Operator, key_id: str, body: Any) -> httpx.Response:
    return operator.http.patch(f"{PATH}/{key_id}", json=body)


def revoke(operator: Operator, key_id: str, **query: str) -> httpx.Response:
    return operator.http.delete(f"{PATH}/{key_id}", params=query)


def stored(tenant: Tenant, key_id: str) -> Body:
    record: Body = json.loads(tenant.redis.get(tenant.names.api_key(key_id)))
    return record


def told(operator: Operator, tenant: Tenant, operation: str) -> list[Body]:
    return [entry for entry in operator.audit(tenant.name) if entry["operation"] == operation]


def by_key(url: str, secret: str) -> int:
    """The status of a call that every key in force may make."""
    headers = {"X-Cycles-API-Key": secret}
    return httpx.get(f"{url}/v1/auth/introspect", headers=headers, timeout=30).status_code
