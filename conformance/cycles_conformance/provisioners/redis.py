"""Tenants, keys and budgets written straight into the Redis that the server under test reads.

For servers that keep the stored shapes of the reference deployment (``tenant:{id}``,
``apikey:{key_id}``, ``budget:{scope}:{unit}`` and their indexes). What a run writes stays there:
point the kit at a Redis whose content does not matter.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners.common import (
    MAX_AMOUNT,
    RUNTIME_PERMISSIONS,
    fresh_tenant_id,
    is_over_limit,
    one_line,
    scope_below,
    secret_of,
    tenant_of,
)

try:
    import bcrypt
    from redis import Redis
    from redis.exceptions import RedisError, WatchError
except ModuleNotFoundError as missing:
    raise ProvisioningError(
        f"provisioning through Redis needs {missing.name}: pip install 'cycles-conformance[redis]'"
    ) from None

# A valid hash all the same; the cost of a production key would take a second for each case.
_BCRYPT_ROUNDS = 4
_PREFIX_LENGTH = 14
_SECONDS = 10.0
_TRIES = 1000
_DAY = timedelta(days=1)
_TENANT_DEFAULTS = {
    "default_commit_overage_policy": "ALLOW_IF_AVAILABLE",
    "default_reservation_ttl_ms": 60_000,
    "max_reservation_ttl_ms": 3_600_000,
    "max_reservation_extensions": 10,
}

Row = dict[str, str]


class RedisProvisioner:
    """Writes into the store at ``url`` (``redis://``, ``rediss://`` or ``unix://``).

    Makes everything that a case can ask for. ``close_tenant`` flips the tenant's record and leaves
    its keys and budgets as they are: the moment in which the contract's guard has to hold, since
    no revoked key answers in its place. Raises ProvisioningError when the store does not answer.
    """

    name = "redis"

    def __init__(self, url: str) -> None:
        self._place = _without_password(url)
        self.doubt = f"does the server read this Redis, {self._place}?"
        try:
            # The annotations of redis-py differ between its releases.
            self._redis: Any = Redis.from_url(
                url, decode_responses=True, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
            )
        except ValueError as error:
            raise ProvisioningError(f"{self._place}: {one_line(str(error))}") from error
        with self._errors():
            self._redis.ping()

    def lacks(self, given: Given) -> str | None:
        return None

    def prepare(self, given: Given) -> Prepared:
        ids = {spec.name: fresh_tenant_id() for spec in given.tenants}
        secrets_by_name: dict[str, str] = {}
        with self._errors():
            pipe = self._redis.pipeline(transaction=True)
            for tenant in given.tenants:
                if tenant.record:
                    record = _tenant_record(ids[tenant.name], tenant)
                    pipe.set(f"tenant:{ids[tenant.name]}", json.dumps(record))
                    pipe.sadd("tenants", ids[tenant.name])
            for key in given.keys:
                tenant_id = ids[key.tenant]
                key_id, secret = self._draw_key()
                pipe.set(
                    f"apikey:{key_id}", json.dumps(_key_record(key_id, secret, tenant_id, key))
                )
                pipe.sadd(f"apikeys:{tenant_id}", key_id)
                secrets_by_name[key.name] = secret
            for budget in given.budgets:
                tenant_id = ids[budget.tenant]
                row = _budget_row(tenant_id, budget)
                place = _budget_key(row["scope"], row["unit"])
                pipe.hset(place, mapping=row)
                pipe.sadd(f"budgets:{tenant_id}", place)
            pipe.execute()
        return Prepared(tenants=ids, secrets=secrets_by_name)

    def change(self, prepared: Prepared, change: Change) -> None:
        with self._errors():
            match change.kind:
                case "freeze" | "unfreeze" | "close_budget" | "fund" | "repay":
                    self._change_budget(tenant_of(prepared, change), change)
                case "close_tenant":
                    self._set_status(tenant_of(prepared, change), "CLOSED", "closed_at")
                case "suspend_tenant":
                    self._set_status(tenant_of(prepared, change), "SUSPENDED", "suspended_at")
                case "corrupt_tenant":
                    self._redis.set(f"tenant:{tenant_of(prepared, change)}", '{"status": "ACT')
                case "revoke":
                    self._revoke(secret_of(prepared, change))
                case _:
                    raise ProvisioningError(f"no such change: {change.kind!r}")

    def close(self) -> None:
        self._redis.close()

    # -- steps ------------------------------------------------------------------------------------

    def _draw_key(self) -> tuple[str, str]:
        """A key id and a secret whose prefix no other key has."""
        while True:
            key_id = f"key_{secrets.token_hex(8)}"
            secret = f"cyc_live_{secrets.token_urlsafe(24)}"
            # Only five of the prefix's characters are random: two keys do draw the same one.
            if self._redis.set(_lookup_key(secret), key_id, nx=True):
                return key_id, secret

    def _change_budget(self, tenant_id: str, change: Change) -> None:
        place = _budget_key(scope_below(tenant_id, change.scope), change.unit)

        def write(pipe: Any) -> None:
            row = pipe.hgetall(place)
            if not row:
                raise ProvisioningError(f"{change.kind}: there is no {place}")
            fields = _changed(row, change)
            pipe.multi()
            pipe.hset(place, mapping=fields)

        self._atomically(place, write)

    def _set_status(self, tenant_id: str, status: str, stamp: str) -> None:
        now = _instant()
        fields = {"status": status, stamp: now, "updated_at": now}
        self._update_record(f"tenant:{tenant_id}", fields)

    def _revoke(self, secret: str) -> None:
        key_id = self._redis.get(_lookup_key(secret))
        fields = {"status": "REVOKED", "revoked_at": _instant(), "revoked_reason": "conformance"}
        self._update_record(f"apikey:{key_id}", fields)

    def _update_record(self, place: str, fields: Mapping[str, str]) -> None:
        def write(pipe: Any) -> None:
            try:
                record = json.loads(pipe.get(place) or "")
            except ValueError:
                raise ProvisioningError(f"there is no readable {place}") from None
            pipe.multi()
            pipe.set(place, json.dumps({**record, **fields}))

        self._atomically(place, write)

    def _atomically(self, place: str, write: Callable[[Any], None]) -> None:
        """Read and write ``place`` in one step, however busy the server under test is there."""
        with self._redis.pipeline(transaction=True) as pipe:
            for _ in range(_TRIES):
                try:
                    pipe.watch(place)
                    write(pipe)
                    pipe.execute()
                    return
                except WatchError:
                    continue
        raise ProvisioningError(f"{place} is never at rest: gave up after {_TRIES} tries")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            said = one_line(str(error)) or type(error).__name__
            raise ProvisioningError(f"{self._place}: {said}") from error


# -- records ---------------------------------------------------------------------------------


def _tenant_record(tenant_id: str, spec: TenantSpec) -> dict[str, Any]:
    now = _instant()
    record = {
        "tenant_id": tenant_id,
        "name": tenant_id,
        "status": spec.status,
        "created_at": now,
        **_TENANT_DEFAULTS,
        **spec.settings,
    }
    stamps = {"SUSPENDED": "suspended_at", "CLOSED": "closed_at"}
    if spec.status in stamps:
        record |= {"updated_at": now, stamps[spec.status]: now}
    return record


def _key_record(key_id: str, secret: str, tenant_id: str, spec: KeySpec) -> dict[str, Any]:
    permissions = RUNTIME_PERMISSIONS if spec.permissions is None else spec.permissions
    # The prefix of the reference: its bcrypt knows no other.
    salt = bcrypt.gensalt(_BCRYPT_ROUNDS, prefix=b"2a")
    lasts = 90 * _DAY if spec.expires_in is None else timedelta(seconds=spec.expires_in)
    record: dict[str, Any] = {
        "key_id": key_id,
        "tenant_id": tenant_id,
        "key_prefix": secret[:_PREFIX_LENGTH],
        "key_hash": bcrypt.hashpw(secret.encode(), salt).decode(),
        "name": f"conformance {spec.name}",
        "permissions": list(permissions),
        "status": "ACTIVE",
        "created_at": _instant(-2 * _DAY),
        "expires_at": _instant(-_DAY if spec.expired else lasts),
    }
    if spec.scope_filter is not None:
        record["scope_filter"] = list(spec.scope_filter)
    if spec.revoked:
        record |= {
            "status": "REVOKED",
            "revoked_at": _instant(),
            "revoked_reason": "conformance",
        }
    return record


def _budget_row(tenant_id: str, spec: BudgetSpec) -> Row:
    row = {
        "ledger_id": str(uuid.uuid4()),
        "tenant_id": tenant_id,
        "scope": scope_below(tenant_id, spec.scope),
        "unit": spec.unit,
        "allocated": str(spec.allocated),
        "remaining": str(spec.allocated - spec.debt),
        "reserved": "0",
        "spent": "0",
        "debt": str(spec.debt),
        "overdraft_limit": str(spec.overdraft_limit),
        "is_over_limit": _flag(is_over_limit(spec)),
        "status": spec.status,
        "created_at": _milliseconds(),
    }
    if spec.status == "CLOSED":
        row["closed_at"] = row["updated_at"] = _milliseconds()
    if spec.commit_overage_policy is not None:
        row["commit_overage_policy"] = spec.commit_overage_policy
    if spec.caps is not None:
        row["caps_json"] = json.dumps(dict(spec.caps))
    return row


def _changed(row: Row, change: Change) -> Row:
    """Fields of a budget that a change rewrites. Raises ProvisioningError where it is not allowed.

    Refuses what the governance contract refuses, so that a case means the same with every
    provisioner.
    """
    status = row.get("status", "ACTIVE")
    allowed = {"freeze": ("ACTIVE",), "unfreeze": ("FROZEN",), "close_budget": ("ACTIVE", "FROZEN")}
    if status not in allowed.get(change.kind, ("ACTIVE",)):
        raise ProvisioningError(f"{change.kind}: {row['scope']} is {status}")
    now = _milliseconds()
    if change.kind == "freeze":
        return {"status": "FROZEN", "updated_at": now}
    if change.kind == "unfreeze":
        return {"status": "ACTIVE", "updated_at": now}
    if change.kind == "close_budget":
        remaining = int(row["remaining"]) + int(row["reserved"])
        return {
            "status": "CLOSED",
            "reserved": "0",
            "remaining": str(remaining),
            "closed_at": now,
            "updated_at": now,
        }
    return {**_funded(row, change), "updated_at": now}


def _funded(row: Row, change: Change) -> Row:
    debt = int(row["debt"])
    paid = min(debt, change.amount) if change.kind == "repay" else 0
    allocated = int(row["allocated"]) + change.amount - paid
    remaining = int(row["remaining"]) + change.amount
    if max(allocated, remaining) > MAX_AMOUNT:
        raise ProvisioningError(f"{change.kind}: {row['scope']} would hold more than an int64")
    return {
        "allocated": str(allocated),
        "remaining": str(remaining),
        "debt": str(debt - paid),
        "is_over_limit": _flag(debt - paid > int(row.get("overdraft_limit", "0"))),
    }


def _budget_key(scope: str, unit: str) -> str:
    return f"budget:{scope}:{unit}"


def _lookup_key(secret: str) -> str:
    return f"apikey:lookup:{secret[:_PREFIX_LENGTH]}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _milliseconds() -> str:
    return str(time.time_ns() // 1_000_000)


def _instant(ahead: timedelta = timedelta(0)) -> str:
    moment = datetime.now(UTC) + ahead
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "Redis"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
