"""Policies: a policy's stored record as the contract's Policy."""

from __future__ import annotations

from typing import Any

from cycles_server.governance.records import Record

Body = dict[str, Any]

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


def policy_body(record: Record) -> Body:
    """The contract's Policy; members that are null, also inside of an object, are left out."""
    return {name: _without_nulls(record[name]) for name in _MEMBERS if record.get(name) is not None}


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if item is not None}
