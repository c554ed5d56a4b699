"""Policies: what holds for the scopes that a pattern matches; made, looked up, changed."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, NamedTuple

from cycles_server.auth.records import iso_instant
from cycles_server.governance.call import (
    ACTIVE_OWNER,
    OPEN_OWNER,
    Call,
    Change,
    closed_first,
    mutate,
)
from cycles_server.governance.patterns import own_pattern, read_pattern
from cycles_server.governance.records import Record, change_record, read_record, require_texts
from cycles_server.governance.scripts import create_policy as create
from cycles_server.governance.scripts import replace_policy as replace
from cycles_server.jsontext import write_json
from cycles_server.paging.windows import read_moment
from cycles_server.refusal import Refusal, invalid
from cycles_server.scopes import lower_case, tenant_in
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.layout import bucket_of
from cycles_server.store.store import Store

Body = dict[str, Any]

ACTIVE = "ACTIVE"
_STATUSES = (ACTIVE, "DISABLED")

_MEMBERS = (
    "policy_id",
    "scope_pattern",
    "status",
    "created_at",
    "name",
    "description",
    "priority",
    "caps",
    "commit_overage_policy",
    "reservation_ttl_override",
    "rate_limits",
    "effective_from",
    "effective_until",
    "updated_at",
)
"""A policy's members in their stored order; others that a record may have are not answered."""
_LONGEST_NAME, _LONGEST_DESCRIPTION = 256, 1024
_LEASES_MS = range(1_000, 86_400_001)
_UNBOUNDED = 1 << 63
_BOUNDS = {
    "reservation_ttl_override": {
        "default_ttl_ms": _LEASES_MS,
        "max_ttl_ms": _LEASES_MS,
        "max_extensions": range(_UNBOUNDED),
    },
    "rate_limits": {
        "max_reservations_per_minute": range(1, _UNBOUNDED),
        "max_commits_per_minute": range(1, _UNBOUNDED),
    },
}
"""What the contract says of a Policy and does not repeat for the request that creates one."""


class Found(NamedTuple):
    """A policy as it is stored.

    Attributes:
        key: of its record.
        owner: whose it is.
    """

    key: str
    owner: str
    record: Record

    @property
    def scope(self) -> str:
        """Where it works, to be held against a key's scope filter. Raises: StoreCorrupt."""
        try:
            return read_pattern(self.record["scope_pattern"]).below(self.owner)
        except (Refusal, KeyError, AttributeError):
            raise StoreCorrupt(f"{self.key} has no pattern that can be read") from None


def policy_body(record: Record) -> Body:
    """The contract's Policy; members that are null, also inside of an object, are left out.

    Raises:
        StoreCorrupt: the record does not say what it is, or in what state.
    """
    body = {name: _without_nulls(record[name]) for name in _MEMBERS if record.get(name) is not None}
    require_texts(body, "policy_id", "scope_pattern", "created_at")
    if body.get("status") not in _STATUSES:
        raise StoreCorrupt(f"status of a policy is {body.get('status')!r}")
    return body


async def create_policy(store: Store, call: Call, tenant_id: str, body: Body) -> Body:
    """Make a policy that is in force at once, or from when it says.

    Args:
        tenant_id: whose it is to be.
        body: PolicyCreateRequest.

    Returns:
        The Policy.

    Raises:
        Refusal: 400 for a pattern that is not of the tenant's scopes, for a member out of bounds,
            or for a tenant that is not ACTIVE; DUPLICATE_RESOURCE for a name that another of its
            policies has; TENANT_CLOSED.
        StaleCredential: see :func:`mutate`.
        StoreError: the store failed.
    """
    async with closed_first(store, tenant_id):
        pattern = own_pattern(tenant_id, body["scope_pattern"])
        given = {**_settled(body), "scope_pattern": pattern.text}
    # In the bucket layout an id leads to its tenant's bucket by its end.
    policy_id = f"pol_{secrets.token_hex(7)}{bucket_of(tenant_id):02x}"
    values = {
        "priority": 0,
        **given,
        "policy_id": policy_id,
        "status": ACTIVE,
        "created_at": iso_instant(await now_ms(store)),
    }
    names = store.keys.tenant(tenant_id)
    create.read(
        await mutate(
            store,
            call,
            tenant_id,
            create.NAME,
            create.Keys(
                names.policy(policy_id),
                names.policy_owner(policy_id),
                *names.listed(names.policies),
            ),
            create.Arguments(
                policy_prefix=names.policy_prefix,
                policy_id=policy_id,
                name=body["name"],
                record=write_json({**policy_body(values), "tenant_id": tenant_id}),
            ),
            Change(
                "createPolicy",
                "policy",
                policy_id,
                {
                    "name": body["name"],
                    "scope_pattern": pattern.text,
                    "actor_type": call.actor_type,
                },
                status=201,
            ),
            owner=ACTIVE_OWNER,
        )
    )
    return policy_body(values)


async def find_policy(store: Store, policy_id: str, tenant_id: str | None = None) -> Found:
    """A policy by its id.

    Args:
        tenant_id: whose it must be; None for anybody's.

    Raises:
        Refusal: NOT_FOUND, for another tenant's too.
        StoreError: the store failed, or the record cannot be read.
    """
    keys = store.keys
    buckets = keys.buckets_of_id(policy_id) if tenant_id is None else [keys.tenant(tenant_id)]
    found = await asyncio.gather(
        *(store.read("GET", bucket.policy(policy_id)) for bucket in buckets)
    )
    for bucket, stored in zip(buckets, found, strict=True):
        if stored:
            key = bucket.policy(policy_id)
            record = read_record(key, stored)
            owner = _owner(key, record)
            if not owner:
                told = await store.read("GET", bucket.policy_owner(policy_id))
                owner = (told or b"").decode(errors="replace")
            if not owner:
                raise StoreCorrupt(f"{key} does not tell whose it is")
            if tenant_id in (None, owner):
                return Found(key, owner, record)
    raise no_such_policy(policy_id)


async def update_policy(store: Store, call: Call, found: Found, body: Body) -> Body:
    """Change a policy's members that are sent; each one is replaced as a whole.

    Args:
        found: the policy, of whom it names.
        body: PolicyUpdateRequest.

    Raises:
        Refusal: NOT_FOUND; 400 for a member out of bounds; DUPLICATE_RESOURCE for a name that
            another policy of the tenant has; TENANT_CLOSED.
        StaleCredential: see :func:`mutate`.
        StoreError: the store failed, or the record cannot be read.
    """
    async with closed_first(store, found.owner):
        asked = _settled(body)
    names = store.keys.tenant(found.owner)
    policy_id = found.key.removeprefix(names.policy_prefix)

    def changed(record: Record, now: int) -> Change:
        record.update(asked)
        record["updated_at"] = iso_instant(now)
        policy_body(record)  # what could not be answered is left as it is
        told = {
            "scope_pattern": record.get("scope_pattern"),
            "name": asked.get("name"),
            "priority": asked.get("priority"),
            "new_status": asked.get("status"),
            "caps_updated": True if "caps" in asked else None,
            "commit_overage_policy": asked.get("commit_overage_policy"),
            "actor_type": call.actor_type,
        }
        return Change("updatePolicy", "policy", policy_id, told)

    def replacing(key: str, expected: bytes, replacement: bytes) -> Any:
        return (
            replace.NAME,
            replace.Keys(policy_record=key, policies=names.policies),
            replace.Arguments(
                policy_prefix=names.policy_prefix,
                policy_id=policy_id,
                name=asked.get("name", ""),
                expected=expected,
                replacement=replacement,
            ),
        )

    record = await change_record(
        store,
        call,
        found.owner,
        found.key,
        changed,
        absent=no_such_policy(policy_id),
        owner=OPEN_OWNER,
        writing=replacing,
    )
    return policy_body(record)


def no_such_policy(policy_id: str) -> Refusal:
    return Refusal("NOT_FOUND", f"There is no policy {policy_id}")


def _owner(key: str, record: Record) -> str:
    """Whose a policy is by its record. One of another server tells it by its pattern alone; one of
    ours that it has written again, of a pattern that names no tenant, not at all."""
    pattern, owner = record.get("scope_pattern"), record.get("tenant_id")
    if not isinstance(pattern, str) or not isinstance(owner, str | None):
        raise StoreCorrupt(f"{key} is no policy")
    return owner or tenant_in(lower_case(pattern))


def _settled(body: Body) -> Body:
    """The members of a request that are given, as they are stored.

    Raises:
        Refusal: 400 for what the contract says of a Policy and does not repeat for its requests.
    """
    given = {name: value for name, value in body.items() if value is not None}
    name, description = given.get("name"), given.get("description")
    if name is not None and not (name.strip() and len(name) <= _LONGEST_NAME):
        raise invalid("name", f"must be 1 to {_LONGEST_NAME} characters, not only blanks")
    if description is not None and len(description) > _LONGEST_DESCRIPTION:
        raise invalid("description", f"has more than {_LONGEST_DESCRIPTION} characters")
    for member, bounds in _BOUNDS.items():
        for part, value in given.get(member, {}).items():
            _check_part(f"{member}.{part}", value, bounds.get(part))
    for member in ("effective_from", "effective_until"):
        if member in given:
            given[member] = _instant(member, given[member])
    return given


def _check_part(where: str, value: Any, bounds: range | None) -> None:
    if bounds is None:
        raise invalid(where, "is not a member that there is")
    if not isinstance(value, int) or isinstance(value, bool) or value not in bounds:
        most = "" if bounds.stop == _UNBOUNDED else f" and at most {bounds.stop - 1}"
        raise invalid(where, f"must be an integer of at least {bounds.start}{most}")


def _instant(member: str, text: str) -> str:
    try:
        return iso_instant(read_moment(text).ms)
    except (ValueError, OverflowError):
        why = "must be an RFC 3339 date-time like 2026-04-10T12:00:00Z"
        raise invalid(member, why) from None


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if item is not None}
