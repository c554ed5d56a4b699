"""The admin plane's lists: whoever turns their pages, and rows as other servers store them."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from support.operator import Operator
from support.reading import Reader
from support.server import ADMIN_KEY
from support.tenants import UNIT, Tenant

TENANTS = "/v1/admin/tenants"
BUDGETS = "/v1/admin/budgets"
KEYS = "/v1/admin/api-keys"
POLICIES = "/v1/admin/policies"
BALANCES = "/v1/balances"
MEMBERS = {
    TENANTS: "tenants",
    BUDGETS: "ledgers",
    KEYS: "keys",
    POLICIES: "policies",
    BALANCES: "balances",
}
"""What the rows of each list stand below."""
IDS = {
    TENANTS: "tenant_id",
    BUDGETS: "ledger_id",
    KEYS: "key_id",
    POLICIES: "policy_id",
    BALANCES: "ledger_id",
}

Body = dict[str, Any]


def unique() -> str:
    """A text that no other test's rows hold."""
    return uuid.uuid4().hex[:10]


def operators(operator: Operator) -> Reader:
    return Reader(operator.url, ADMIN_KEY, header="X-Admin-API-Key")


def tenants_own(tenant: Tenant, **key: Any) -> Reader:
    """A client with a key of the tenant; with a new one where it is to be a special one."""
    return Reader(tenant.url, tenant.new_key(**key) if key else tenant.secret)


def ids(reader: Reader, path: str, **params: Any) -> list[str]:
    """The ids on all pages of a list."""
    return [row[IDS[path]] for row in reader.rows(path, MEMBERS[path], **params)]


def refused(reader: Reader, path: str, **params: Any) -> tuple[int, str, str]:
    """Status, code and message of a page that is not given."""
    answer = reader.get(path, **params)
    body = answer.json()
    return answer.status_code, body["error"], body["message"]


@dataclass
class Family:
    """Tenants that no list but those asked for them shows: children of one parent that is none."""

    operator: Operator

    def __post_init__(self) -> None:
        self.parent = f"p-{unique()}"
        self.reader = operators(self.operator)

    def child(self, tenant_id: str = "", **fields: Any) -> Tenant:
        """A tenant's record as it is stored."""
        tenant = Tenant(
            self.operator.redis,
            self.operator.url,
            self.operator.keys,
            tenant_id or f"t-{unique()}",
        )
        made = {"created_at": "2026-01-01T00:00:00Z", "parent_tenant_id": self.parent}
        tenant.record(**{**made, **fields})
        return tenant

    def ids(self, **params: Any) -> list[str]:
        return ids(self.reader, TENANTS, parent_tenant_id=self.parent, **params)

    def page(self, **params: Any) -> Body:
        return self.reader.page(TENANTS, parent_tenant_id=self.parent, **params)

    def refused(self, **params: Any) -> tuple[int, str, str]:
        return refused(self.reader, TENANTS, parent_tenant_id=self.parent, **params)


def put_budget(
    tenant: Tenant, below: str = "", allocated: int = 100, *, unit: str = UNIT, **fields: Any
) -> str:
    """A budget of ``tenant:{name}{below}`` in the store; returns its ledger id."""
    ledger_id = str(fields.pop("ledger_id", uuid.uuid4()))
    tenant.budget(
        f"tenant:{tenant.name}{below}", allocated, unit=unit, ledger_id=ledger_id, **fields
    )
    return ledger_id


def put_policy(tenant: Tenant, policy_id: str = "", **fields: Any) -> str:
    """A policy's record in the store; returns its id."""
    policy_id = policy_id or f"pol_{unique()}"
    record = {
        "policy_id": policy_id,
        "scope_pattern": f"tenant:{tenant.name}/*",
        "status": "ACTIVE",
        "created_at": "2026-01-01T00:00:00.123456789Z",
        **fields,
    }
    tenant.redis.set(tenant.names.policy(policy_id), json.dumps(record))
    tenant.redis.sadd(tenant.names.policies, policy_id)
    return policy_id


def put_key(tenant: Tenant, key_id: str = "", **fields: Any) -> str:
    """An API key's record that no secret leads to; returns its id."""
    key_id = key_id or f"key_{unique()}"
    record = {
        "key_id": key_id,
        "tenant_id": tenant.name,
        "key_prefix": "cyc_live_Abcde",
        "key_hash": "$2a$12$" + "x" * 53,
        "status": "ACTIVE",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2999-01-01T00:00:00Z",
        **fields,
    }
    tenant.redis.set(tenant.names.api_key(key_id), json.dumps(record))
    tenant.redis.sadd(tenant.names.api_keys(), key_id)
    return key_id
