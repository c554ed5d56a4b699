"""Audit entries as they are stored, by this server and by others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from cycles_server.auth.records import iso_instant
from cycles_server.governance.audit.refused_calls import BY_OPERATOR
from cycles_server.jsontext import stored_members
from cycles_server.paging.windows import Moment, read_moment

Entry = Mapping[str, Any]
"""An entry's members; those that are null, or of another type than the contract's, count as
absent wherever one looks."""

_TEXTS = (
    *("log_id", "timestamp", "tenant_id", "key_id", "user_agent", "source_ip", "operation"),
    *("resource_type", "resource_id", "request_id", "trace_id"),
)
_OBJECTS = ("subject", "action", "amount", "metadata")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_NO_STATUS = 0


def read_entry(stored: bytes) -> Entry:
    """An entry, to be looked at.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        entry = orjson.loads(stored)
    except orjson.JSONDecodeError:
        return _read_slowly(stored)
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    return entry


def _read_slowly(stored: bytes) -> Entry:
    """One in which another server has kept a number that the quick reader cannot hold."""
    return stored_members(stored)


def text_in(entry: Entry, name: str) -> str | None:
    """A text member."""
    value = entry.get(name)
    return value if isinstance(value, str) else None


def status_in(entry: Entry) -> int | None:
    value = entry.get("status")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment_of(entry: Entry, at_ms: int) -> Moment:
    """When it happened, as exactly as it says; ``at_ms`` for one that does not."""
    try:
        return read_moment(text_in(entry, "timestamp") or "")
    except ValueError:
        return Moment(at_ms, "")


def entry_body(stored: bytes, log_id: str, at_ms: int) -> dict[str, Any]:
    """The contract's AuditLogEntry, each number as it was written.

    What the contract requires and an old entry lacks is filled in: whose it is with the operator's
    sentinel, the time with that of its place in the index, a status with 0.

    Args:
        log_id, at_ms: its place in the index.

    Raises:
        ValueError: it is no JSON object.
    """
    entry = stored_members(stored)
    body: dict[str, Any] = {
        "log_id": log_id,
        "timestamp": iso_instant(at_ms),
        "tenant_id": BY_OPERATOR,
        "operation": "",
    }
    for name in _TEXTS:
        value = text_in(entry, name)
        if value is not None and (name != "trace_id" or _TRACE_ID.fullmatch(value)):
            body[name] = value
    # Nobody's is the one thing that an entry never is.
    body["tenant_id"] = body["tenant_id"] or BY_OPERATOR
    status = status_in(entry)
    body["status"] = _NO_STATUS if status is None else status
    code = text_in(entry, "error_code")
    if code is not None:
        body["error_code"] = code
    for name in _OBJECTS:
        if isinstance(entry.get(name), dict):
            body[name] = entry[name]
    return body
