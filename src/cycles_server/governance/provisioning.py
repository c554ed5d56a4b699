"""Tenants, API keys and budgets written straight to the store, in the stored shapes of the
governance plane: for a first start, for tests, and for machines without that plane.

Every function may be repeated: what exists is left alone, but for :func:`set_budget`. Amounts are
int64 in the budget's unit; ``USD_MICROCENTS`` are 10^-8 dollars.
"""

from __future__ import annotations

import re
import secrets
import string
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bcrypt
import orjson
from redis import Redis
from redis.exceptions import NoScriptError

from cycles_server.auth.records import DEFAULT_PERMISSIONS, iso_instant, read_key
from cycles_server.governance.scripts import create_budget as create
from cycles_server.governance.scripts import set_budget as reset
from cycles_server.ledger.scopes import LEVELS, UNITS, derive_scopes
from cycles_server.refusal import Refusal
from cycles_server.store.keys import API_KEY_PREFIX_LENGTH, Keys
from cycles_server.store.scripts import load_script

SECRET_PREFIX = "cyc_live_"  # noqa: S105
DEFAULT_VALID_DAYS = 90
"""How long a key is valid, unless said otherwise."""
MAX_AMOUNT = 2**63 - 1
OVERAGE_POLICIES = ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT")

_SECRET_RANDOM = 32
_BCRYPT_COST = 12
_BCRYPT_BYTES = 72
_DAY_MS = 86_400_000
_TENANT_ID = re.compile(r"[a-z0-9-]{3,64}")
_LEVEL_LENGTH = 128
_ALPHABET = string.ascii_letters + string.digits


class ProvisioningError(ValueError):
    """What was asked for cannot be written; ``str()`` is one line for the operator."""


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """A budget as it stands after :func:`create_budget` or :func:`set_budget`.

    Attributes:
        created: False for one that was there before.
        replaced: the allocation that it had before another was set, None if none was.
    """

    scope: str
    unit: str
    allocated: int
    remaining: int
    created: bool
    replaced: int | None = None


# -- tenants ---------------------------------------------------------------------------------------


def create_tenant(client: Redis, keys: Keys, tenant_id: str, name: str | None = None) -> bool:
    """Make a tenant in force; returns whether it is new.

    Raises:
        ProvisioningError: the id is not allowed, or the tenant exists and is not ACTIVE.
    """
    if not _TENANT_ID.fullmatch(tenant_id):
        raise ProvisioningError(
            f"tenant {tenant_id!r}: an id is 3 to 64 of the letters a-z, digits and '-'"
        )
    names = keys.tenant(tenant_id)
    record = {
        "tenant_id": tenant_id,
        "name": name or tenant_id,
        "status": "ACTIVE",
        "created_at": iso_instant(_now_ms(client)),
        "default_commit_overage_policy": "ALLOW_IF_AVAILABLE",
        "default_reservation_ttl_ms": 60_000,
        "max_reservation_ttl_ms": 3_600_000,
        "max_reservation_extensions": 10,
    }
    created = bool(client.set(names.record, orjson.dumps(record), nx=True))
    if not created:
        status = _tenant_status(client.get(names.record))
        if status != "ACTIVE":
            raise ProvisioningError(f"tenant {tenant_id} exists and is {status}")
    client.sadd(keys.tenants, tenant_id)
    return created


def _tenant_status(record: Any) -> str:
    try:
        return str(orjson.loads(record)["status"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


# -- API keys --------------------------------------------------------------------------------------


def create_api_key(
    client: Redis,
    keys: Keys,
    tenant_id: str,
    permissions: Sequence[str] | None = None,
    secret: str | None = None,
    *,
    name: str = "provisioned",
    valid_days: int = DEFAULT_VALID_DAYS,
) -> str:
    """Make an API key and return its secret, which is stored nowhere.

    Args:
        permissions: by default the ten of the governance contract; none of them: ``[]``.
        secret: the secret to use, by default a new one. If the tenant has it already, and in
            force, nothing is written.

    Raises:
        ProvisioningError: the secret cannot be a key's, is another's, or is no longer in force.
    """
    if secret is not None:
        _check_secret(secret)
        found = find_api_key(client, keys, secret)
        if found is not None:
            return _confirmed(client, secret, tenant_id, found)
    names = keys.tenant(tenant_id)
    key_id = f"key_{secrets.token_hex(8)}"
    now = _now_ms(client)
    while True:
        drawn = secret or _new_secret()
        salt = bcrypt.gensalt(_BCRYPT_COST, prefix=b"2a")  # the form that every bcrypt reads
        record = {
            "key_id": key_id,
            "tenant_id": tenant_id,
            "key_prefix": drawn[:API_KEY_PREFIX_LENGTH],
            "key_hash": bcrypt.hashpw(drawn.encode(), salt).decode(),
            "name": name,
            "permissions": sorted(DEFAULT_PERMISSIONS if permissions is None else permissions),
            "scope_filter": [],
            "status": "ACTIVE",
            "created_at": iso_instant(now),
            "expires_at": iso_instant(now + valid_days * _DAY_MS),
        }
        client.set(names.api_key(key_id), orjson.dumps(record))
        # The lookup entry comes last: it never leads to a record that is not there.
        lookup = keys.layout.lookup_value(tenant_id, key_id)
        if client.set(keys.api_key_lookup(drawn), lookup, nx=True):
            client.sadd(names.api_keys(), key_id)
            return drawn
        client.delete(names.api_key(key_id))
        if secret is not None:
            raise ProvisioningError(f"another key begins with {secret[:API_KEY_PREFIX_LENGTH]}")


def find_api_key(client: Redis, keys: Keys, secret: str) -> bytes | None:
    """The record that a secret's prefix leads to, if there is one."""
    value = client.get(keys.api_key_lookup(secret))
    if value is None:
        return None
    key_id, tenant = keys.layout.read_lookup(_text(value))
    record = client.get(keys.tenant(tenant or "").api_key(key_id))
    return record.encode() if isinstance(record, str) else record


def has_api_key(client: Redis, keys: Keys, tenant_id: str) -> bool:
    """Whether the tenant has a key in force."""
    names = keys.tenant(tenant_id)
    now = _now_ms(client)
    for key_id in client.smembers(names.api_keys()):
        record = client.get(names.api_key(_text(key_id)))
        if record is not None and _in_force(record, now):
            return True
    return False


def in_force(client: Redis, keys: Keys, tenant_id: str, secret: str) -> bool:
    """Whether a secret is a key of the tenant that may be used now."""
    record = find_api_key(client, keys, secret)
    if record is None or not _in_force(record, _now_ms(client)):
        return False
    key = read_key(record)
    return key is not None and key.tenant == tenant_id and _matches(secret, key.key_hash)


def _confirmed(client: Redis, secret: str, tenant_id: str, record: bytes) -> str:
    prefix = secret[:API_KEY_PREFIX_LENGTH]
    key = read_key(record)
    if key is None or key.tenant != tenant_id or not _matches(secret, key.key_hash):
        raise ProvisioningError(f"another key begins with {prefix}")
    if not _in_force(record, _now_ms(client)):
        raise ProvisioningError(f"the key {prefix}... is revoked or has expired")
    return secret


def _in_force(record: bytes | str, now_ms: int) -> bool:
    key = read_key(record if isinstance(record, bytes) else record.encode())
    if key is None or not key.active:
        return False
    return key.expires_at_ms is None or now_ms <= key.expires_at_ms


def _check_secret(secret: str) -> None:
    random = secret.removeprefix(SECRET_PREFIX)
    if random == secret or len(random) < API_KEY_PREFIX_LENGTH:
        raise ProvisioningError(
            f"a secret is {SECRET_PREFIX} and at least {API_KEY_PREFIX_LENGTH} characters more"
        )
    if len(secret.encode()) > _BCRYPT_BYTES:
        raise ProvisioningError(f"a secret is at most {_BCRYPT_BYTES} bytes")


def _matches(secret: str, key_hash: bytes) -> bool:
    try:
        return bcrypt.checkpw(secret.encode(), key_hash)
    except ValueError:
        return False


def _new_secret() -> str:
    return SECRET_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_RANDOM))


# -- budgets ---------------------------------------------------------------------------------------


def create_budget(
    client: Redis,
    keys: Keys,
    tenant_id: str,
    scope: str,
    unit: str,
    allocated: int,
    overdraft_limit: int = 0,
    *,
    overage_policy: str | None = None,
) -> BudgetEntry:
    """Make a budget with ``allocated`` to spend, in one step. One that exists keeps its money.

    Raises:
        ProvisioningError: scope, unit or an amount is not allowed, or the budget that exists is
            another tenant's.
    """
    check_budget(tenant_id, scope, unit, allocated, overdraft_limit)
    if overage_policy is not None and overage_policy not in OVERAGE_POLICIES:
        raise ProvisioningError(
            f"overage policy {overage_policy!r}: must be one of {', '.join(OVERAGE_POLICIES)}"
        )
    names = keys.tenant(tenant_id)
    answer = create.read(
        _run(
            client,
            create.NAME,
            create.Keys(budget_record=names.budget(scope, unit), tenant_budgets=names.budgets),
            create.Arguments(
                tenant=tenant_id,
                ledger_id=str(uuid.uuid4()),
                scope=scope,
                unit=unit,
                allocated=str(allocated),
                overdraft_limit=str(overdraft_limit),
                overage_policy=overage_policy or "",
            ),
        )
    )
    if isinstance(answer, create.Created):
        return BudgetEntry(scope, unit, allocated, allocated, created=True)
    owner, stored, remaining = answer
    # A record without a tenant counts for the tenant that its scope names.
    if owner != tenant_id and not (owner == "" and scope.startswith("tenant:")):
        raise ProvisioningError(f"the budget {scope} in {unit} belongs to tenant {owner or '?'}")
    try:
        return BudgetEntry(scope, unit, int(stored), int(remaining), created=False)
    except ValueError:
        raise ProvisioningError(
            f"the budget {scope} in {unit} exists and its amounts cannot be read"
        ) from None


_NOT_SET = {
    "NO_BUDGET": "has just been deleted",
    "BUDGET_FROZEN": "is FROZEN: unfreeze it first",
    "BUDGET_CLOSED": "is CLOSED, and stays so",
    "CORRUPT_BUDGET": "has amounts that cannot be read: `cycles-server doctor` names them",
    "OUT_OF_RANGE": "holds and has spent more than can be counted against so little",
}


def set_budget(
    client: Redis, keys: Keys, tenant_id: str, scope: str, unit: str, allocated: int
) -> BudgetEntry:
    """Make a budget, or set the allocation of one that exists, in one step.

    As the protocol's RESET: what is reserved, spent and owed stays, what remains is computed anew
    and may be negative, and the budget is over its limit if its debt is.

    Raises:
        ProvisioningError: as :func:`create_budget`; or the budget is not ACTIVE, or what would
            remain is below int64.
    """
    entry = create_budget(client, keys, tenant_id, scope, unit, allocated)
    if entry.created:
        return entry
    answer = reset.read(
        _run(
            client,
            reset.NAME,
            reset.Keys(budget_record=keys.tenant(tenant_id).budget(scope, unit)),
            reset.Arguments(tenant=tenant_id, scope=scope, allocated=str(allocated)),
        )
    )
    if isinstance(answer, reset.Refused):
        why = _NOT_SET.get(answer.code, f"cannot be set: {answer.code}")
        raise ProvisioningError(f"the budget {scope} in {unit} {why}")
    return BudgetEntry(scope, unit, allocated, answer.remaining, False, replaced=answer.before)


def check_budget(
    tenant_id: str, scope: str, unit: str, allocated: int, overdraft_limit: int = 0
) -> None:
    """Check what can be checked without the store.

    Raises:
        ProvisioningError: scope, unit or an amount is not allowed.
    """
    check_scope(scope, tenant_id)
    if unit not in UNITS:
        raise ProvisioningError(f"unit {unit!r}: must be one of {', '.join(UNITS)}")
    for what, amount in (("allocated", allocated), ("overdraft limit", overdraft_limit)):
        if not 0 <= amount <= MAX_AMOUNT:
            raise ProvisioningError(f"{what} {amount}: must be from 0 to {MAX_AMOUNT}")


def check_scope(scope: str, tenant_id: str) -> None:
    """Check that a scope is one that a subject of this tenant can have.

    Raises:
        ProvisioningError: not canonical, with the canonical form where there is one.
    """
    subject: dict[str, str] = {}
    for segment in scope.split("/"):
        level, colon, value = segment.partition(":")
        if not colon or level.lower() not in LEVELS:
            raise ProvisioningError(
                f"scope {scope!r}: {segment!r} must be LEVEL:VALUE, LEVEL one of "
                f"{', '.join(LEVELS)}"
            )
        if level.lower() in subject:
            raise ProvisioningError(f"scope {scope!r} names {level} twice")
        if len(value) > _LEVEL_LENGTH:
            raise ProvisioningError(f"scope {scope!r}: {level} is over {_LEVEL_LENGTH} characters")
        subject[level.lower()] = value
    try:
        canonical = derive_scopes(subject).path
    except Refusal:
        raise ProvisioningError(
            f"scope {scope!r}: a value is one or more of the letters a-z, digits, '_', '.', '-'"
        ) from None
    if scope != canonical:
        raise ProvisioningError(f"scope {scope!r} is not canonical, write {canonical!r}")
    if subject.get("tenant", tenant_id) != tenant_id:
        raise ProvisioningError(f"scope {scope!r} is not one of tenant {tenant_id}")


def _run(client: Redis, name: str, keys: Sequence[str], arguments: Sequence[str]) -> list[str]:
    script = load_script(name)
    try:
        answer: Any = client.evalsha(script.sha.decode(), len(keys), *keys, *arguments)
    except NoScriptError:
        answer = client.eval(script.source.decode(), len(keys), *keys, *arguments)
    return [_text(part) for part in answer]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _now_ms(client: Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
