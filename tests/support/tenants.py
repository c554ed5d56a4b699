"""Tenants, keys and budgets as the governance plane would store them, and a client for each."""

from __future__ import annotations

import json
import secrets
import uuid
import weakref
from dataclasses import dataclass, field
from typing import Any

import bcrypt
import httpx
from redis import Redis

from cycles_server.store.keys import Keys

UNIT = "TOKENS"
# The cost that the governance plane uses would make each new tenant wait a quarter of a second.
_CHEAP_ROUNDS = 4


@dataclass
class Tenant:
    """A tenant with one API key, and the calls of a client that holds it."""

    redis: Redis[Any]  # type: ignore[type-arg]
    url: str
    keys: Keys = field(default_factory=Keys)
    name: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:10]}")

    def __post_init__(self) -> None:
        self.names = self.keys.tenant(self.name)
        self.secret = self.new_key()
        self.http = httpx.Client(
            base_url=self.url, headers={"X-Cycles-API-Key": self.secret}, timeout=30
        )
        weakref.finalize(self, self.http.close)

    # -- provisioning ------------------------------------------------------------------------

    def record(self, **fields: Any) -> None:
        """Write the tenant's record; ``status`` is ACTIVE unless given."""
        record = {"tenant_id": self.name, "name": self.name, "status": "ACTIVE", **fields}
        self.redis.set(self.names.record, json.dumps(record))
        self.redis.sadd(self.keys.tenants, self.name)

    def new_key(self, **fields: Any) -> str:
        """Write an API key's record and return its secret."""
        secret = f"cyc_live_{secrets.token_hex(16)}"
        self.key_id = f"key_{secrets.token_hex(8)}"
        self.key_record = {
            "key_id": self.key_id,
            "tenant_id": self.name,
            "key_prefix": secret[:14],
            "key_hash": bcrypt.hashpw(secret.encode(), bcrypt.gensalt(_CHEAP_ROUNDS)).decode(),
            "status": "ACTIVE",
            "created_at": "2026-01-01T00:00:00Z",
            **fields,
        }
        self.write_key()
        lookup = self.keys.layout.lookup_value(self.name, self.key_id)
        self.redis.set(self.keys.api_key_lookup(secret), lookup)
        self.redis.sadd(self.names.api_keys(), self.key_id)
        return secret

    def write_key(self, **changes: Any) -> None:
        """Change the record of the key made last."""
        self.key_record.update(changes)
        self.redis.set(self.names.api_key(self.key_id), json.dumps(self.key_record))

    def budget(
        self,
        scope: str | None = None,
        allocated: int = 1_000_000,
        *,
        unit: str = UNIT,
        **fields: Any,
    ) -> str:
        """Write a budget; returns its scope (``tenant:{name}`` unless given)."""
        scope = scope or f"tenant:{self.name}"
        row = {
            "ledger_id": uuid.uuid4().hex,
            "tenant_id": self.name,
            "scope": scope,
            "unit": unit,
            "allocated": allocated,
            "remaining": allocated,
            "reserved": 0,
            "spent": 0,
            "debt": 0,
            "overdraft_limit": 0,
            "is_over_limit": "false",
            "status": "ACTIVE",
            **fields,
        }
        self.redis.hset(self.names.budget(scope, unit), mapping=row)
        self.redis.sadd(self.names.budgets, self.names.budget(scope, unit))
        return scope

    def stored_budget(self, scope: str | None = None, unit: str = UNIT) -> dict[str, str]:
        """A budget as it is stored."""
        row = self.redis.hgetall(self.names.budget(scope or f"tenant:{self.name}", unit))
        return {name.decode(): value.decode() for name, value in row.items()}

    def amounts(self, scope: str | None = None, unit: str = UNIT) -> dict[str, int]:
        """A budget's amounts as they are stored."""
        row = self.stored_budget(scope, unit)
        fields = ("allocated", "remaining", "reserved", "spent", "debt")
        return {name: int(row[name]) for name in fields}

    # -- calls ---------------------------------------------------------------------------------

    def subject(self, **levels: str) -> dict[str, str]:
        return {"tenant": self.name, **levels}

    def reserve(self, amount: int = 100, /, **changes: Any) -> httpx.Response:
        return self.http.post("/v1/reservations", json=self.reserve_body(amount, **changes))

    def reserve_body(self, amount: int = 100, /, **changes: Any) -> dict[str, Any]:
        return {
            "idempotency_key": new_key(),
            "subject": self.subject(),
            "action": {"kind": "llm.completion", "name": "test-model"},
            "estimate": {"unit": UNIT, "amount": amount},
            **changes,
        }

    def reserved(self, amount: int = 100, /, **changes: Any) -> str:
        """Reserve, and return the id."""
        answer = self.reserve(amount, **changes)
        assert answer.status_code == 200, answer.text
        reservation_id: str = answer.json()["reservation_id"]
        return reservation_id

    def commit(self, reservation_id: str, amount: int, /, **changes: Any) -> httpx.Response:
        body = {
            "idempotency_key": new_key(),
            "actual": {"unit": UNIT, "amount": amount},
            **changes,
        }
        return self.http.post(f"/v1/reservations/{reservation_id}/commit", json=body)

    def release(self, reservation_id: str, /, **changes: Any) -> httpx.Response:
        body = {"idempotency_key": new_key(), **changes}
        return self.http.post(f"/v1/reservations/{reservation_id}/release", json=body)

    def extend(self, reservation_id: str, by_ms: int, /, **changes: Any) -> httpx.Response:
        body = {"idempotency_key": new_key(), "extend_by_ms": by_ms, **changes}
        return self.http.post(f"/v1/reservations/{reservation_id}/extend", json=body)

    def decide(self, amount: int = 100, /, **changes: Any) -> httpx.Response:
        return self.http.post("/v1/decide", json=self.reserve_body(amount, **changes))

    def event(self, amount: int = 100, /, **changes: Any) -> httpx.Response:
        body = {
            "idempotency_key": new_key(),
            "subject": self.subject(),
            "action": {"kind": "llm.completion", "name": "test-model"},
            "actual": {"unit": UNIT, "amount": amount},
            **changes,
        }
        return self.http.post("/v1/events", json=body)

    def get(self, reservation_id: str) -> httpx.Response:
        return self.http.get(f"/v1/reservations/{reservation_id}")

    def list(self, **filters: Any) -> httpx.Response:
        return self.http.get("/v1/reservations", params=filters)

    def balances(self, **filters: Any) -> httpx.Response:
        return self.http.get("/v1/balances", params=filters or {"tenant": self.name})


def new_key() -> str:
    """A fresh idempotency key."""
    return uuid.uuid4().hex


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an ErrorResponse."""
    return answer.status_code, answer.json().get("error", "")
