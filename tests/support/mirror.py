"""The model's state in the store: written as the governance plane would, and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from model.ledger import DAY_MS, Budget, LedgerModel, Reservation
from model.ledger import Tenant as TenantRecord

from cycles_server.store.keys import Keys

Row = dict[str, str]

UNREADABLE = ("no json", "[]", "{}", '{"status":"PAUSED"}', '"ACTIVE"')
"""Tenant records that exist and say nothing that this plane knows."""

_AMOUNTS = ("allocated", "remaining", "reserved", "spent", "debt", "overdraft_limit")
_TENANT_MEMBERS = (
    "default_commit_overage_policy",
    "default_reservation_ttl_ms",
    "max_reservation_ttl_ms",
    "max_reservation_extensions",
)
_DEFAULTS = {
    "reserved": "0",
    "spent": "0",
    "debt": "0",
    "overdraft_limit": "0",
    "is_over_limit": "false",
    "status": "ACTIVE",
}


def budget_row(budget: Budget) -> Row:
    """A budget's hash."""
    row = {name: str(getattr(budget, name)) for name in _AMOUNTS}
    row |= {
        "scope": budget.scope,
        "unit": budget.unit,
        "status": budget.status,
        "is_over_limit": "true" if budget.is_over_limit else "false",
    }
    if budget.tenant_id is not None:
        row["tenant_id"] = budget.tenant_id
    if budget.caps is not None:
        row["caps_json"] = json.dumps(budget.caps)
    if budget.commit_overage_policy is not None:
        row["commit_overage_policy"] = budget.commit_overage_policy
    return row


def reservation_row(reservation: Reservation) -> Row:
    """What must stand in a reservation's hash."""
    row = {
        "tenant": reservation.tenant,
        "state": reservation.status,
        "estimate_amount": str(reservation.estimate),
        "estimate_unit": reservation.unit,
        "created_at": str(reservation.created_at_ms),
        "expires_at": str(reservation.expires_at_ms),
        "grace_ms": str(reservation.grace_ms),
        "overage_policy": reservation.overage_policy,
        "max_extensions": str(reservation.max_extensions),
        "extension_count": str(reservation.extension_count),
    }
    if reservation.charged is not None:
        row["charged_amount"] = str(reservation.charged)
    return row


class Mirror:
    """Carries the model's governance over into the store, and reads the store back.

    Args:
        tenants: every tenant there is.
    """

    def __init__(self, redis: Any, model: LedgerModel, tenants: Iterable[str]) -> None:
        self._redis = redis
        self._model = model
        self._names = {tenant: Keys().tenant(tenant) for tenant in tenants}
        self._any = next(iter(self._names.values()))

    # -- governance --------------------------------------------------------------------------

    def put_budget(self, scope: str, unit: str, *, sparse: bool = False) -> None:
        """Write the model's budget, or remove the one that it no longer has.

        ``sparse`` leaves out what has its default, as a hand-made record may.
        """
        budget = self._model.budgets.get((scope, unit))
        key = self._any.budget(scope, unit)
        pipe = self._redis.pipeline()
        pipe.delete(key)
        for tenant, names in self._names.items():
            if budget is not None and budget.belongs_to(tenant):
                pipe.sadd(names.budgets, key)
            else:
                pipe.srem(names.budgets, key)
        if budget is not None:
            row = budget_row(budget)
            if sparse:
                row = {k: v for k, v in row.items() if _DEFAULTS.get(k) != v}
            pipe.hset(key, mapping=row)
        pipe.execute()

    def put_tenant(self, tenant: str, unreadable: str = UNREADABLE[0]) -> None:
        """Write the model's record of a tenant, or remove the one that it no longer has."""
        record = self._model.tenants.get(tenant)
        key = self._names[tenant].record
        if record is None:
            self._redis.delete(key)
        elif record.status in ("ACTIVE", "SUSPENDED", "CLOSED"):
            self._redis.set(key, json.dumps(_tenant_record(tenant, record)))
        else:
            self._redis.set(key, unreadable)

    # -- comparison --------------------------------------------------------------------------

    def check(self) -> None:
        """Every stored budget and reservation is the model's, and there are no others."""
        prefixes = {"budget": self._any.budget_prefix, "res": self._any.reservation_prefix}
        pipe = self._redis.pipeline(transaction=False)
        for prefix in prefixes.values():
            pipe.keys(prefix + "*")
        pipe.zrange(self._any.ttl, 0, -1, withscores=True)
        budget_keys, reservation_keys, ttl = pipe.execute()
        for key in (*budget_keys, *reservation_keys):
            pipe.hgetall(key)
        rows = [_text(row) for row in pipe.execute()]

        stored = {key.decode(): row for key, row in zip(budget_keys, rows, strict=False)}
        expected = {
            self._any.budget(scope, unit): budget_row(budget)
            for (scope, unit), budget in self._model.budgets.items()
        }
        assert {key: _DEFAULTS | row for key, row in stored.items()} == expected

        prefix = prefixes["res"]
        found = {
            key.decode().removeprefix(prefix): row
            for key, row in zip(reservation_keys, rows[len(budget_keys) :], strict=True)
        }
        assert found.keys() == self._model.reservations.keys()
        for row_id, reservation in self._model.reservations.items():
            wanted = reservation_row(reservation)
            assert {name: found[row_id].get(name) for name in wanted} == wanted

        assert {row_id.decode(): int(score) for row_id, score in ttl} == {
            row_id: reservation.expires_at_ms
            for row_id, reservation in self._model.reservations.items()
            if reservation.status == "ACTIVE"
        }

    def check_key_lives(self) -> None:
        """The record of a live reserve outlives its lease by a day, extensions included."""
        for (tenant, operation, key), record in self._model.records.items():
            if operation == "reserve" and record.reservation is not None:
                name = self._names[tenant].idempotency("reserve", key)
                expected = record.reservation.settle_until_ms + DAY_MS
                assert self._redis.pexpiretime(name) == expected, name


def _tenant_record(tenant: str, record: TenantRecord) -> dict[str, Any]:
    members = {name: getattr(record, name) for name in _TENANT_MEMBERS}
    return {
        "tenant_id": tenant,
        "name": tenant,
        "status": record.status,
        **{name: value for name, value in members.items() if value is not None},
    }


def _text(row: dict[bytes, bytes]) -> Row:
    return {name.decode(): value.decode() for name, value in row.items()}
