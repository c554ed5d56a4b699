"""Which keys may stay in a store for ever; every other needs an expiry, or the store fills up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from redis import Redis

STAY = {
    "tenants": "the set of all tenants",
    "tenant:[^:]+": "a tenant's record: governance alone ends it",
    "apikey:[^:]+": "an API key's record: a revoked key is still shown",
    "apikey:lookup:.{1,14}": "leads from a secret to its key's record",
    "apikeys:[^:]+": "the keys of a tenant",
    "budget:.+:[A-Z_]+": "money, closed budgets too",
    "budgets:[^:]+": "the budgets of a tenant",
    "policy:[^:]+": "a policy's record: governance alone ends it",
    "policies:[^:]+": "the policies of a tenant",
    "cycles:sorted:((budgets|apikeys|policies):[^:]+|\\{tenants\\})": "a large set in order",
    "cycles:policyowner:[^:]+": "whose a policy is, as long as there is the policy",
    "reservation:ttl": "the live reservations by their end; what ends leaves it",
    "reservation:quarantine": "damaged records that a person has to look at",
    "reservation:idx:[^:]+:created_at_ms": "the reservations of a tenant; pruned in the background",
    "audit:logs:[^:]+": "the audit entries of a tenant, or of all; pruned in the background",
    "cycles:closings": "tenants whose close is not through; it leaves when it is",
    "cycles:closed": "tenants whose close is through: nothing of them is looked at again",
    "webhook:[^:]+": "a webhook subscription: governance alone ends it",
    "webhooks:[^:]+": "the webhook subscriptions of a tenant",
    "evidence:envelope:[0-9a-f]{64}": "the evidence service writes it, and says how long it stays",
}
"""Patterns of names, after the tag of a bucket, and why such a key stays."""

KEPT_AUDIT = {"audit:log:.+": "AUDIT_RETENTION_DAYS=0 keeps every entry"}

LIVE = "reservation:res_.+"
"""A reservation stays while it is ACTIVE: its end gives it an expiry."""

_TAG = r"(\{b\d{3}\})?"


def lasting(
    redis: Redis[Any],  # type: ignore[type-arg]
    names: Iterable[bytes],
    more: dict[str, str] | None = None,
) -> list[str]:
    """Those of the keys that have no expiry and may not stay, each with its type.

    Args:
        more: what else may stay, like ``STAY``.
    """
    allowed = re.compile(f"{_TAG}({'|'.join(STAY | (more or {}))})")
    live = re.compile(_TAG + LIVE)
    unknown = [name for name in names if not allowed.fullmatch(_text(name))]
    pipe = redis.pipeline(transaction=False)
    for name in unknown:
        pipe.pttl(name)
        pipe.type(name)
    answers = pipe.execute()
    found = []
    for name, left, kind in zip(unknown, answers[::2], answers[1::2], strict=True):
        if left != -1:
            continue
        if kind == b"hash" and live.fullmatch(_text(name)):
            state = redis.hget(name, "state")
            if state == b"ACTIVE" or redis.pttl(name) != -1:
                continue  # its end may have come between these looks
            kind += b", " + (state or b"without a state")
        found.append(f"{_text(name)} ({kind.decode()})")
    return found


def every_key(redis: Redis[Any]) -> Iterable[bytes]:  # type: ignore[type-arg]
    """The names of all keys of a store."""
    return redis.scan_iter(count=10_000)  # type: ignore[no-any-return]


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
