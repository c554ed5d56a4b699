"""A tenant whose records are those that the reference's services write, member by member.

Every call here leaves in the store what the reference leaves there, and gives back the request and
the answer that a client had. Facts that surprise: an optional member that was not sent is an empty
text or a null, arrays that Lua has made have their slashes escaped, amounts in a snapshot are
texts, and the first answer is kept twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import bcrypt
from redis import Redis

from support.tenants import UNIT, Tenant, new_key

Json = dict[str, Any]

DAY_MS = 86_400_000
KEPT_MS = 30 * DAY_MS
DEBIT_MS = 7 * DAY_MS
_LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
_AMOUNTS = ("remaining", "reserved", "spent", "allocated")


@dataclass(frozen=True)
class Exchange:
    """A request and its first answer.

    Attributes:
        id: the reservation or debit concerned; empty for a decision.
    """

    path: str
    request: Json
    status: int
    answer: Json
    id: str = ""


class ReferenceTenant(Tenant):
    """A tenant of the reference's, with one key, and the calls that were made on it."""

    # -- governance --------------------------------------------------------------------------

    def record(self, **fields: Any) -> None:
        super().record(
            created_at="2026-01-05T08:00:00.123456789Z",
            default_commit_overage_policy="ALLOW_IF_AVAILABLE",
            default_reservation_ttl_ms=60_000,
            max_reservation_ttl_ms=3_600_000,
            max_reservation_extensions=10,
            metadata={"plan": "1"},
            **fields,
        )

    def new_key(self, *, cost: int = 4, **fields: Any) -> str:
        """The governance plane hashes at a cost of 12, which takes a quarter of a second."""
        secret = f"cyc_live_{secrets.token_urlsafe(24)}"
        key_id = f"key_{str(uuid.uuid4())[:16]}"
        salt = bcrypt.gensalt(cost, prefix=b"2a")
        record = {
            "key_id": key_id,
            "tenant_id": self.name,
            "key_prefix": secret[:14],
            "key_hash": bcrypt.hashpw(secret.encode(), salt).decode(),
            "name": "main",
            "permissions": [
                *("reservations:create", "reservations:commit", "reservations:release"),
                *("reservations:extend", "reservations:list", "balances:read"),
            ],
            "status": "ACTIVE",
            "created_at": "2026-01-05T08:00:01.000000001Z",
            "expires_at": "2099-12-31T23:59:59.999999999Z",
            **fields,
        }
        self.redis.set(self.names.api_key(key_id), _jackson(record))
        lookup = self.keys.layout.lookup_value(self.name, key_id)
        self.redis.set(self.keys.api_key_lookup(secret), lookup)
        self.redis.sadd(self.names.api_keys(), key_id)
        return secret

    def budget(self, scope: str | None = None, allocated: int = 1_000_000, **fields: Any) -> str:
        created = self.now() - DAY_MS
        return super().budget(
            scope, allocated, **{"created_at": created, "updated_at": created, **fields}
        )

    def policy(self, pattern: str | None = None, **fields: Any) -> str:
        """Its record does not say whose it is, but by the pattern; returns its id."""
        policy_id = f"pol_{str(uuid.uuid4())[:16]}"
        record = {
            "policy_id": policy_id,
            "scope_pattern": pattern or f"tenant:{self.name}/app:*",
            "status": "ACTIVE",
            "created_at": "2026-01-05T08:00:02.000000001Z",
            "name": "main",
            "priority": 0,
            "caps": {"max_tokens": 100, "tool_allowlist": []},
            "commit_overage_policy": "ALLOW_IF_AVAILABLE",
            **fields,
        }
        self.redis.set(self.names.policy(policy_id), _jackson(record))
        self.redis.sadd(self.names.policies, policy_id)
        return policy_id

    def was_audited(self, operation: str, days_ago: int = 0, kept_days: int = 400) -> str:
        """An entry of the audit log, which may have lapsed; returns its id."""
        log_id = f"log_{str(uuid.uuid4())[:16]}"
        at = self.now() - days_ago * DAY_MS
        entry = {
            "log_id": log_id,
            "timestamp": "2026-01-05T08:00:03.000000001Z",
            "tenant_id": self.name,
            "operation": operation,
            "status": 201,
        }
        if days_ago < kept_days:
            self.redis.set(
                self.names.audit_entry(log_id), _jackson(entry), pxat=at + kept_days * DAY_MS
            )
        for index in (self.names.audit_tenant_index, self.names.audit_index):
            self.redis.zadd(index, {log_id: at})
        return log_id

    def now(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # -- what a client did ---------------------------------------------------------------------

    def was_reserved(
        self, amount: int = 100, /, *, policy: str = "ALLOW_IF_AVAILABLE", **changes: Any
    ) -> Exchange:
        """A live reserve; the budgets of its scopes must be there."""
        request = self.reserve_body(amount, **changes)
        unit, one, now = request["estimate"]["unit"], str(uuid.uuid4()), self.now()
        policy = request.get("overage_policy", policy)
        scopes = _scopes(request["subject"])
        lease, grace = request.get("ttl_ms", 60_000), request.get("grace_period_ms", 5000)
        before = self._change(scopes, unit, remaining=-amount, reserved=amount)
        caps = self.stored_budget(scopes[-1], unit).get("caps_json")
        answer: Json = {
            "decision": "ALLOW_WITH_CAPS" if caps else "ALLOW",
            "reservation_id": one,
            "affected_scopes": scopes,
            "expires_at_ms": now + lease,
            "remaining_ttl_ms": lease,
            "scope_path": scopes[-1],
            "reserved": _amount(unit, amount),
            **({"caps": json.loads(caps)} if caps else {}),
            "balances": self._answered(scopes, unit),
        }
        snapshot = {
            "estimate_unit": unit,
            "expires_at": str(now + lease),
            "remaining_ttl_ms": lease,
            "caps_json": caps or False,
            "state": "ACTIVE",
            "scope_path": scopes[-1],
            "affected_scopes": scopes,
            "estimate_amount": str(amount),
            "reservation_id": one,
            "balances": self._kept(scopes, unit, before),
        }
        self.redis.hset(
            self.names.reservation(one),
            mapping={
                "reservation_id": one,
                "tenant": self.name,
                "state": "ACTIVE",
                "subject_json": _subject(request),
                "action_json": _action(request),
                "estimate_amount": amount,
                "estimate_unit": unit,
                "scope_path": scopes[-1],
                "affected_scopes": _lua(scopes),
                "budgeted_scopes": _lua(scopes),
                "created_at": now,
                "expires_at": now + lease,
                "grace_ms": grace,
                "idempotency_key": request["idempotency_key"],
                "overage_policy": policy,
                "metadata_json": _optional(request, "metadata"),
                "max_extensions": 10,
                "extension_count": 0,
                "reserve_response_state": "BASE",
                "reserve_response_json": _lua(snapshot),
            },
        )
        self.redis.zadd(self.names.ttl, {one: now + lease})
        self.redis.zadd(self.names.index, {one: now})
        self._remember("reserve", request, one, DAY_MS)
        self._keep_body("reserve", one, answer, DAY_MS)
        return Exchange("/v1/reservations", request, 200, answer, one)

    def was_committed(
        self,
        reserved: Exchange,
        actual: int,
        /,
        *,
        charged: int | None = None,
        debt: int = 0,
        over_limit: bool = False,
        **changes: Any,
    ) -> Exchange:
        """A commit; ``charged`` where less than ``actual`` was, ``debt`` what no budget covered."""
        one = reserved.id
        unit, estimate = reserved.answer["reserved"].values()
        charged = actual if charged is None else charged
        request = {"idempotency_key": new_key(), "actual": _amount(unit, actual), **changes}
        scopes = reserved.answer["affected_scopes"]
        before = self._change(
            scopes,
            unit,
            reserved=-estimate,
            spent=charged - debt,
            remaining=estimate - charged,
            debt=debt,
        )
        if over_limit:
            for scope in scopes:
                self.redis.hset(self.names.budget(scope, unit), "is_over_limit", "true")
        answer: Json = {"status": "COMMITTED", "charged": _amount(unit, charged)}
        if charged < estimate:
            answer["released"] = _amount(unit, estimate - charged)
        answer["balances"] = self._answered(scopes, unit)
        record = self.names.reservation(one)
        policy = self.redis.hget(record, "overage_policy").decode()
        snapshot = {
            "charged": str(charged),
            "estimate_unit": unit,
            "state": "COMMITTED",
            "affected_scopes_json": _lua(scopes),
            "balances": self._kept(scopes, unit, before, debt),
            "scope_path": scopes[-1],
            "estimate_amount": str(estimate),
            "overage_policy": policy,
            "reservation_id": one,
            "debt_incurred": str(debt),
        }
        self._finish(
            "commit",
            one,
            answer,
            state="COMMITTED",
            committed_at=self.now(),
            committed_idempotency_key=request["idempotency_key"],
            committed_payload_hash=_hash(request),
            committed_metrics_json=_optional(request, "metrics"),
            committed_metadata_json=_optional(request, "metadata"),
            charged_amount=charged,
            debt_incurred=debt,
            commit_response_state="BASE",
            commit_response_json=_lua(snapshot),
        )
        return Exchange(f"/v1/reservations/{one}/commit", request, 200, answer, one)

    def was_released(self, reserved: Exchange, /, **changes: Any) -> Exchange:
        one = reserved.id
        unit, estimate = reserved.answer["reserved"].values()
        request = {"idempotency_key": new_key(), **changes}
        scopes = reserved.answer["affected_scopes"]
        self._change(scopes, unit, reserved=-estimate, remaining=estimate)
        answer: Json = {
            "status": "RELEASED",
            "released": _amount(unit, estimate),
            "balances": self._answered(scopes, unit),
        }
        snapshot = {
            "state": "RELEASED",
            "affected_scopes_json": _lua(scopes),
            "estimate_unit": unit,
            "balances": self._kept(scopes, unit),
            "reservation_id": one,
            "estimate_amount": str(estimate),
        }
        self._finish(
            "release",
            one,
            answer,
            state="RELEASED",
            released_at=self.now(),
            released_idempotency_key=request["idempotency_key"],
            released_payload_hash=_hash(request),
            release_response_state="BASE",
            release_response_json=_lua(snapshot),
        )
        return Exchange(f"/v1/reservations/{one}/release", request, 200, answer, one)

    def was_extended(self, reserved: Exchange, by_ms: int, /, **changes: Any) -> Exchange:
        one, now = reserved.id, self.now()
        unit = reserved.answer["reserved"]["unit"]
        request = {"idempotency_key": new_key(), "extend_by_ms": by_ms, **changes}
        scopes = reserved.answer["affected_scopes"]
        record = self.names.reservation(one)
        expires = int(self.redis.hget(record, "expires_at")) + by_ms
        answer: Json = {
            "status": "ACTIVE",
            "expires_at_ms": expires,
            "remaining_ttl_ms": expires - now,
            "balances": self._answered(scopes, unit),
        }
        kept = {
            "extended_at": now,
            "estimate_unit": unit,
            "balances": self._kept(scopes, unit),
            "remaining_ttl_ms": expires - now,
            "reservation_id": one,
            "expires_at_ms": expires,
        }
        self.redis.hset(record, "expires_at", expires)
        self.redis.hincrby(record, "extension_count", 1)
        if "metadata" in request:
            self.redis.hset(record, "extend_metadata_json", _jackson(request["metadata"]))
        self.redis.zadd(self.names.ttl, {one: expires})
        name = self.names.idempotency("extend", f"{one}:{request['idempotency_key']}")
        self.redis.set(name, _lua(kept), px=expires - now)
        self.redis.set(f"{name}:hash", _hash(request), px=expires - now)
        return Exchange(f"/v1/reservations/{one}/extend", request, 200, answer, one)

    def has_expired(self, reserved: Exchange, /) -> None:
        """The reference's sweeper came by."""
        unit, estimate = reserved.answer["reserved"].values()
        scopes = reserved.answer["affected_scopes"]
        self._change(scopes, unit, reserved=-estimate, remaining=estimate)
        record = self.names.reservation(reserved.id)
        self.redis.hset(record, mapping={"state": "EXPIRED", "expired_at": self.now()})
        self.redis.pexpire(record, KEPT_MS)
        self.redis.zrem(self.names.ttl, reserved.id)

    def was_debited(
        self, actual: int, /, *, charged: int | None = None, debt: int = 0, **changes: Any
    ) -> Exchange:
        one, now = str(uuid.uuid4()), self.now()
        charged = actual if charged is None else charged
        request = {
            "idempotency_key": new_key(),
            "subject": self.subject(),
            "action": {"kind": "llm.completion", "name": "test-model"},
            "actual": _amount(UNIT, actual),
            **changes,
        }
        unit, scopes = request["actual"]["unit"], _scopes(request["subject"])
        before = self._change(
            scopes, unit, spent=charged - debt, remaining=-(charged - debt) - debt, debt=debt
        )
        answer: Json = {"status": "APPLIED", "event_id": one}
        if charged != actual:
            answer["charged"] = _amount(unit, charged)
        answer["balances"] = self._answered(scopes, unit)
        snapshot: Json = {"status": "APPLIED", "event_id": one}
        if charged != actual:
            snapshot["charged"] = str(charged)
        snapshot["balances"] = self._kept(scopes, unit, before, debt)
        record = self.names.event(one)
        self.redis.hset(
            record,
            mapping={
                "event_id": one,
                "tenant": self.name,
                "subject_json": _subject(request),
                "action_json": _action(request),
                "amount": actual,
                "charged_amount": charged,
                "unit": unit,
                "scope_path": scopes[-1],
                "affected_scopes": _lua(scopes),
                "budgeted_scopes": _lua(scopes),
                "created_at": now,
                "idempotency_key": request["idempotency_key"],
                "metrics_json": _optional(request, "metrics"),
                "client_time_ms": request.get("client_time_ms", ""),
                "metadata_json": _optional(request, "metadata"),
                "event_response_json": _lua(snapshot),
            },
        )
        self.redis.pexpire(record, KEPT_MS)
        self._remember("event", request, one, DEBIT_MS)
        return Exchange("/v1/events", request, 201, answer, one)

    def was_decided(self, amount: int = 100, /, **changes: Any) -> Exchange:
        request = self.reserve_body(amount, **changes)
        answer = {"decision": "ALLOW", "affected_scopes": _scopes(request["subject"])}
        self._remember("decide", request, _jackson(answer), DAY_MS)
        return Exchange("/v1/decide", request, 200, answer)

    def was_tried(self, amount: int = 100, /, **changes: Any) -> Exchange:
        """A dry run."""
        request = self.reserve_body(amount, dry_run=True, **changes)
        unit, scopes = request["estimate"]["unit"], _scopes(request["subject"])
        answer = {
            "decision": "ALLOW",
            "affected_scopes": scopes,
            "scope_path": scopes[-1],
            "reserved": _amount(unit, amount),
            "balances": self._answered(scopes, unit),
        }
        self._remember("reserve", request, _jackson(answer), DAY_MS)
        return Exchange("/v1/reservations", request, 200, answer)

    # -- details -------------------------------------------------------------------------------

    def _change(self, scopes: list[str], unit: str, **by: int) -> list[dict[str, str]]:
        """Move the amounts of budgets; gives them as they were."""
        before = [self.stored_budget(scope, unit) for scope in scopes]
        for scope in scopes:
            for name, delta in by.items():
                self.redis.hincrby(self.names.budget(scope, unit), name, delta)
        return before

    def _answered(self, scopes: list[str], unit: str) -> list[Json]:
        """Balances as a client is told them."""
        rows = []
        for scope in scopes:
            stored = self.stored_budget(scope, unit)
            row: Json = {"scope": scope.rpartition("/")[2], "scope_path": scope}
            row |= {name: _amount(unit, int(stored[name])) for name in _AMOUNTS}
            for name in ("debt", "overdraft_limit"):
                if stored[name] != "0":
                    row[name] = _amount(unit, int(stored[name]))
            if stored["is_over_limit"] == "true":
                row["is_over_limit"] = True
            rows.append(row)
        return rows

    def _kept(
        self,
        scopes: list[str],
        unit: str,
        before: list[dict[str, str]] | None = None,
        debt: int | None = None,
    ) -> list[Json]:
        """Balances as a snapshot has them."""
        rows = []
        for place, scope in enumerate(scopes):
            stored = self.stored_budget(scope, unit)
            row: Json = {
                name: stored[name] for name in (*_AMOUNTS, "debt", "overdraft_limit", "scope")
            }
            row["is_over_limit"] = stored["is_over_limit"] == "true"
            if before is not None:
                row["pre_remaining"] = before[place]["remaining"]
                row["pre_is_over_limit"] = before[place]["is_over_limit"] == "true"
            if debt is not None:
                row["debt_incurred"] = str(debt)
            rows.append(row)
        return rows

    def _remember(self, operation: str, request: Json, value: str, kept_ms: int) -> None:
        name = self.names.idempotency(operation, request["idempotency_key"])
        self.redis.set(name, value, px=kept_ms)
        self.redis.set(f"{name}:hash", _hash(request), px=kept_ms)

    def _keep_body(self, operation: str, one: str, answer: Json, kept_ms: int) -> None:
        self.redis.set(f"{operation}:body:{one}", _jackson(answer), px=kept_ms)

    def _finish(self, operation: str, one: str, answer: Json, **fields: Any) -> None:
        record = self.names.reservation(one)
        self.redis.hset(record, mapping=fields)
        self.redis.pexpire(record, KEPT_MS)
        self.redis.zrem(self.names.ttl, one)
        self._keep_body(operation, one, answer, KEPT_MS)


def _amount(unit: str, amount: int) -> Json:
    return {"unit": unit, "amount": amount}


def _scopes(subject: Json) -> list[str]:
    scopes: list[str] = []
    for level in _LEVELS:
        if level in subject:
            above = f"{scopes[-1]}/" if scopes else ""
            scopes.append(f"{above}{level}:{subject[level]}")
    return scopes


def _subject(request: Json) -> str:
    members = (*_LEVELS, "dimensions")
    return _jackson({name: request["subject"].get(name) for name in members})


def _action(request: Json) -> str:
    return _jackson({name: request["action"].get(name) for name in ("kind", "name", "tags")})


def _optional(request: Json, member: str) -> str:
    return _jackson(request[member]) if member in request else ""


def _hash(request: Json) -> str:
    """64 hex digits that nobody else can make of this request."""
    return hashlib.sha256(secrets.token_bytes(8) + _jackson(request).encode()).hexdigest()


def _jackson(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _lua(value: Any) -> str:
    return _jackson(value).replace("/", "\\/")


def new_tenant(redis: Redis[Any], url: str) -> ReferenceTenant:  # type: ignore[type-arg]
    """A tenant with a budget, and one below it that may go into debt."""
    tenant = ReferenceTenant(redis, url)
    tenant.record()
    tenant.budget()
    tenant.budget(f"tenant:{tenant.name}/app:chat", overdraft_limit=500)
    return tenant
