"""Key and tenant records as the governance plane stores them (JSON strings in Redis)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import orjson

DEFAULT_PERMISSIONS = frozenset(
    {
        "reservations:create",
        "reservations:commit",
        "reservations:release",
        "reservations:extend",
        "reservations:list",
        "balances:read",
        "budgets:read",
        "budgets:write",
        "policies:read",
        "policies:write",
    }
)
"""What a key may do whose record names no permissions."""

DEFAULT_MAX_TTL_MS = 3_600_000
"""``max_reservation_ttl_ms`` of a tenant whose record does not set it."""
CONTRACT_MAX_TTL_MS = 86_400_000
"""The contract's own bound, all there is for a tenant without a record."""
DEFAULT_TTL_MS = 60_000
DEFAULT_MAX_EXTENSIONS = 10
DEFAULT_OVERAGE_POLICY = "ALLOW_IF_AVAILABLE"
"""These two are in ``lua/lib/defaults.lua``, too: for records of reservations that lack them."""

_COUNTABLE = 10**15
"""The scripts read no count or time that is so large (``whole`` in ``lua/lib/holders.lua``)."""

NEVER = "9999-12-31T23:59:59.999Z"
"""Until then lasts what never ends, where the contract wants a time."""
_BEYOND_9999 = re.compile(r"\+[0-9]{5,9}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OPEN, CLOSED, UNREADABLE = "OPEN", "CLOSED", "UNREADABLE"
_STATUSES = ("ACTIVE", "SUSPENDED", "CLOSED")


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What a tenant's record says about its reservations.

    Attributes:
        guard: what a mutation meets: OPEN, CLOSED, or UNREADABLE for a record that exists and
            cannot be understood.
        suspended: whether only reads, commits and releases go on.
        default_ttl_ms, max_ttl_ms: lease granted when none is asked for, and its ceiling.
        max_extensions: how often a reservation may be extended.
        overage_policy: the tenant's default, or an empty string.
    """

    guard: str = OPEN
    suspended: bool = False
    default_ttl_ms: int = DEFAULT_TTL_MS
    max_ttl_ms: int = CONTRACT_MAX_TTL_MS
    max_extensions: int = DEFAULT_MAX_EXTENSIONS
    overage_policy: str = ""

    def lease_ms(self, asked: int | None) -> int:
        """The lease to grant for the one that was asked for."""
        return min(self.default_ttl_ms if asked is None else asked, self.max_ttl_ms)


def read_tenant(record: bytes | None) -> TenantPolicy:
    """The policy in a tenant record; no record means no restriction."""
    if not record:
        return TenantPolicy()
    try:
        fields = orjson.loads(record)
    except orjson.JSONDecodeError:
        return TenantPolicy(guard=UNREADABLE)
    if not isinstance(fields, dict) or fields.get("status") not in _STATUSES:
        return TenantPolicy(guard=UNREADABLE)
    return TenantPolicy(
        guard=CLOSED if fields["status"] == "CLOSED" else OPEN,
        suspended=fields["status"] == "SUSPENDED",
        default_ttl_ms=_positive(fields.get("default_reservation_ttl_ms"), DEFAULT_TTL_MS),
        max_ttl_ms=_positive(fields.get("max_reservation_ttl_ms"), DEFAULT_MAX_TTL_MS),
        max_extensions=_count(fields.get("max_reservation_extensions"), DEFAULT_MAX_EXTENSIONS),
        overage_policy=str(fields.get("default_commit_overage_policy") or ""),
    )


def _count(value: Any, default: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _COUNTABLE
    return value if good else default


def _positive(value: Any, default: int) -> int:
    return _count(value, default) or default


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key's record, as far as this plane needs it."""

    key_id: str
    tenant: str
    key_hash: bytes
    active: bool
    expires_at_ms: int | None
    permissions: frozenset[str]
    scope_filter: tuple[str, ...]

    def in_force(self, now_ms: int) -> bool:
        """Whether it may be used at a time (epoch ms, by the store's clock)."""
        return self.active and (self.expires_at_ms is None or now_ms <= self.expires_at_ms)

    def matches(self, secret: bytes) -> bool:
        """Whether this is the key's secret. bcrypt: it takes a quarter of a second."""
        try:
            return bcrypt.checkpw(secret, self.key_hash)
        except ValueError:
            return False  # too long for a secret, or the stored hash is not one


def read_key(record: bytes) -> KeyRecord | None:
    """The key in a record, or None if it cannot be understood (and so opens nothing)."""
    try:
        fields = orjson.loads(record)
        permissions, scope_filter = fields.get("permissions"), fields.get("scope_filter")
        for texts in (permissions, scope_filter):
            if not isinstance(texts, list | None) and texts != {}:
                return None
        expires = fields.get("expires_at")
        return KeyRecord(
            key_id=_text(fields["key_id"]),
            tenant=_text(fields["tenant_id"]),
            key_hash=_text(fields["key_hash"]).encode(),
            active=fields.get("status") == "ACTIVE" and fields.get("revoked_at") is None,
            expires_at_ms=None if expires is None else instant_ms(_text(expires)),
            permissions=(
                DEFAULT_PERMISSIONS if permissions is None else frozenset(texts_in(permissions))
            ),
            scope_filter=scope_filter_in(scope_filter),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def texts_in(value: Any) -> list[str]:
    """The texts in a stored array; some servers have stored an empty one as ``{}``."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def scope_filter_in(value: Any) -> tuple[str, ...]:
    """A stored scope filter. What is no text in it stands as its JSON: an entry that no scope
    meets. Left out, it would widen what the key is for."""
    if value is None or value == {}:
        return ()
    entries = value if isinstance(value, list) else [value]
    return tuple(item if isinstance(item, str) else orjson.dumps(item).decode() for item in entries)


def instant_ms(text: str) -> int:
    """Epoch ms of an ISO 8601 instant (a stored one; without an offset it is UTC). A year beyond
    9999, which is written with a sign, counts as the end of that year.

    Raises:
        ValueError: not an instant.
    """
    if _BEYOND_9999.match(text):
        text = NEVER
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def iso_instant(ms: int) -> str:
    """The stored form of an instant: ``2026-04-10T12:00:00.123Z``.

    Raises:
        OverflowError: beyond the years 1 to 9999.
    """
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
