"""An operator at the admin plane: its calls, and what they leave in the store."""

from __future__ import annotations

import json
import uuid
import weakref
from dataclasses import dataclass, field
from typing import Any

import httpx
from redis import Redis

from cycles_server.store.keys import Keys
from support.server import ADMIN_KEY
from support.tenants import UNIT, Tenant

Body = dict[str, Any]


@dataclass
class Operator:
    """Whoever has the operator's key."""

    redis: Redis[Any]  # type: ignore[type-arg]
    url: str
    keys: Keys = field(default_factory=Keys)

    def __post_init__(self) -> None:
        headers = {"X-Admin-API-Key": ADMIN_KEY}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=30)
        weakref.finalize(self, self.http.close)

    def tenant(self, **members: Any) -> Tenant:
        """A new tenant that the admin plane made, with a key; its calls go to the admin plane."""
        name = f"t-{uuid.uuid4().hex[:10]}"
        made = self.http.post(
            "/v1/admin/tenants", json={"tenant_id": name, "name": name, **members}
        )
        assert made.status_code == 201, made.text
        return Tenant(self.redis, self.url, self.keys, name)

    def budget(
        self, tenant: Tenant, allocated: int = 1_000, below: str = "", unit: str = UNIT, **more: Any
    ) -> Body:
        """A new budget of ``tenant:{name}{below}``; its BudgetLedger."""
        body = {
            "tenant_id": tenant.name,
            "scope": f"tenant:{tenant.name}{below}",
            "unit": unit,
            "allocated": {"unit": unit, "amount": allocated},
            **more,
        }
        made = self.http.post("/v1/admin/budgets", json=body)
        assert made.status_code == 201, made.text
        ledger: Body = made.json()
        return ledger

    def fund(
        self,
        tenant: Tenant,
        operation: str,
        amount: int,
        /,
        *,
        below: str = "",
        unit: str = UNIT,
        **more: Any,
    ) -> httpx.Response:
        return self.http.post(
            "/v1/admin/budgets/fund",
            params={
                "tenant_id": tenant.name,
                "scope": f"tenant:{tenant.name}{below}",
                "unit": unit,
            },
            json={"operation": operation, "amount": {"unit": unit, "amount": amount}, **more},
        )

    def of_budget(
        self, method: str, path: str, tenant: Tenant, below: str = "", body: Any = None
    ) -> httpx.Response:
        """A call on one budget: lookup, freeze, unfreeze, or its update (an empty path)."""
        return self.http.request(
            method,
            f"/v1/admin/budgets{path}",
            params={"scope": f"tenant:{tenant.name}{below}", "unit": UNIT},
            json=body,
        )

    def audit(self, owner: str) -> list[Body]:
        """The audit entries filed under a tenant or sentinel as they are stored, oldest first."""
        names = self.keys.tenant(owner)
        ids = self.redis.zrange(names.audit_tenant_index, 0, -1)
        entries = [self.redis.get(names.audit_entry(log_id.decode())) for log_id in ids]
        return [json.loads(entry) for entry in entries if entry]
