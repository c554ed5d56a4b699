"""A policy's record, as far as the ledger needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson

from cycles_server.auth.records import instant_ms
from cycles_server.governance.patterns import read_pattern
from cycles_server.refusal import Refusal

_T = TypeVar("_T")

_STATUSES = ("ACTIVE", "DISABLED")
_OVERAGE = ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT")
_COUNTABLE = 10**15
"""The scripts read no count or time that is so large (``whole`` in ``lua/lib/holders.lua``)."""
_CAP_NUMBERS = ("max_tokens", "max_steps_remaining", "cooldown_ms")
_CAP_LISTS = ("tool_allowlist", "tool_denylist")
_LONGEST_TOOL = 256


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """What a record says. What it says nothing of is None, or empty.

    Attributes:
        key: of the record.
        record: as it was read; empty for an id without one.
        damaged: whether it cannot be understood; then no other attribute counts, but for
            ``pattern``.
        active: whether its status lets it govern.
        pattern: canonical; None where it cannot be told, so that it may concern every scope, and
            empty where no scope matches it.
        rank: of several that match, the smallest governs.
        since_ms, until_ms: when it is in effect, the first ms and the first one after.
        caps: JSON; ``{}`` says that there are none.
        default_ttl_ms, max_ttl_ms, max_extensions: in place of the tenant's own.
        reserves_per_minute: at most, on each scope that it matches.
    """

    key: str
    record: bytes
    damaged: bool = False
    active: bool = False
    pattern: str | None = None
    rank: tuple[int, int, bool, str] = (0, 0, False, "")
    since_ms: int | None = None
    until_ms: int | None = None
    caps: bytes = b""
    overage_policy: str = ""
    default_ttl_ms: int | None = None
    max_ttl_ms: int | None = None
    max_extensions: int | None = None
    reserves_per_minute: int | None = None

    def in_effect(self, now_ms: int) -> bool:
        """Whether it may govern at a time (epoch ms, by the store's clock)."""
        return (
            self.active
            and (self.since_ms is None or self.since_ms <= now_ms)
            and (self.until_ms is None or now_ms < self.until_ms)
        )


def read_policy(key: str, record: bytes) -> StoredPolicy:
    """The policy in a record, and be it a damaged one."""
    empty = StoredPolicy(key, record)
    if not record:
        return empty
    try:
        fields = orjson.loads(record)
        text = _is(fields["scope_pattern"], str)
    except (ValueError, KeyError, TypeError):
        return replace(empty, damaged=True)
    try:
        pattern = read_pattern(text)
    except Refusal:
        return replace(empty, pattern="")
    empty = replace(empty, pattern=pattern.text)
    try:
        if _one_of(fields["status"], _STATUSES) != "ACTIVE":
            return empty
        priority = _given(fields, "priority", _count) or 0
        levels, closed = pattern.precision
        leases = _given(fields, "reservation_ttl_override", _object) or {}
        rates = _given(fields, "rate_limits", _object) or {}
        return replace(
            empty,
            active=True,
            rank=(-priority, -levels, not closed, key),
            since_ms=_given(fields, "effective_from", instant_ms),
            until_ms=_given(fields, "effective_until", instant_ms),
            caps=_given(fields, "caps", _caps) or b"",
            overage_policy=_given(fields, "commit_overage_policy", _overage) or "",
            default_ttl_ms=_given(leases, "default_ttl_ms", _positive),
            max_ttl_ms=_given(leases, "max_ttl_ms", _positive),
            max_extensions=_given(leases, "max_extensions", _bounded),
            reserves_per_minute=_given(rates, "max_reservations_per_minute", _positive),
        )
    except (ValueError, KeyError, TypeError):
        return replace(empty, damaged=True)


def _given(fields: dict[str, Any], member: str, read: Callable[[Any], _T]) -> _T | None:
    """A member by its reader; None where it is absent or null, as other servers write it."""
    value = fields.get(member)
    return None if value is None else read(value)


def _is(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"not a {kind.__name__}")
    return value


def _object(value: Any) -> dict[str, Any]:
    return _is(value, dict)


def _count(value: Any) -> int:
    number = _is(value, int)
    if number < 0:
        raise ValueError("below 0")
    return number


def _bounded(value: Any) -> int:
    return min(_count(value), _COUNTABLE - 1)


def _positive(value: Any) -> int:
    number = _bounded(value)
    if not number:
        raise ValueError("not above 0")
    return number


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError("unknown")
    return str(value)


def _overage(value: Any) -> str:
    return _one_of(value, _OVERAGE)


def _caps(value: Any) -> bytes:
    """Caps as they are answered: what the contract does not allow must not go out."""
    caps = {name: item for name, item in _object(value).items() if item is not None}
    for name, item in caps.items():
        if name in _CAP_NUMBERS:
            _count(item)
        elif name in _CAP_LISTS:
            if any(len(_is(tool, str)) > _LONGEST_TOOL for tool in _is(item, list)):
                raise ValueError("a tool's name is too long")
        else:
            raise ValueError("unknown cap")
    return orjson.dumps(caps)
