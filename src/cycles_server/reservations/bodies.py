"""ReservationSummary and ReservationDetail: the fields that they are made of, and their wording."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from cycles_server.jsontext import StoredObject, stored_object
from cycles_server.ledger.bodies import Body, amount, without_nulls
from cycles_server.reservations.records import Row, finalized_at_ms, number_of, text_of
from cycles_server.scopes import UNITS
from cycles_server.store.errors import StoreCorrupt

STATUSES = ("ACTIVE", "COMMITTED", "RELEASED", "EXPIRED")
ALL_MAPS = frozenset({"metadata", "committed_metadata", "evidence"})
"""The heavy members: in a list only where ``include`` names them."""

_ARTIFACT_OF = {"COMMITTED": "commit", "RELEASED": "release"}
_FIELDS = (
    "tenant",
    "state",
    "idempotency_key",
    "subject_json",
    "action_json",
    "estimate_amount",
    "estimate_unit",
    "charged_amount",
    "created_at",
    "expires_at",
    "committed_at",
    "released_at",
    "scope_path",
    "affected_scopes",
)
_EVIDENCE_FIELDS = tuple(
    f"{artifact}_evidence_{part}"
    for artifact in ("reserve", "commit", "release")
    for part in ("id", "url")
)
_OBJECT_FIELDS = {"metadata": "metadata_json", "committed_metadata": "committed_metadata_json"}


def listed_fields(maps: Iterable[str]) -> tuple[str, ...]:
    """The fields of a row that are short by nature."""
    return (*_FIELDS, *_EVIDENCE_FIELDS) if "evidence" in maps else _FIELDS


def object_fields(maps: Iterable[str]) -> list[str]:
    """The fields that hold the open objects among ``maps``: of any length."""
    return [field for name, field in _OBJECT_FIELDS.items() if name in maps]


def reservation_detail(reservation_id: str, row: Row, maps: Iterable[str]) -> Body:
    """ReservationDetail or ReservationSummary, with the maps that are asked for.

    Raises:
        StoreCorrupt: a field that the contract requires is missing or unreadable.
    """
    status = text_of(row, "state")
    unit = text_of(row, "estimate_unit")
    if status not in STATUSES or unit not in UNITS:
        raise StoreCorrupt(f"unknown state {status} or unit {unit}")
    body: Body = {"reservation_id": reservation_id, "status": status}
    if "idempotency_key" in row:
        body["idempotency_key"] = text_of(row, "idempotency_key")
    body["subject"] = _object_without_nulls(row, "subject_json")
    body["action"] = _object_without_nulls(row, "action_json")
    body["reserved"] = amount(unit, number_of(row, "estimate_amount"))
    if status == "COMMITTED" and "charged_amount" in row:
        body["committed"] = amount(unit, number_of(row, "charged_amount"))
    body["created_at_ms"] = number_of(row, "created_at")
    body["expires_at_ms"] = number_of(row, "expires_at")
    finalized = finalized_at_ms(row)
    if finalized is not None:
        body["finalized_at_ms"] = finalized
    body["scope_path"] = text_of(row, "scope_path")
    scopes = _json(row, "affected_scopes")
    if not isinstance(scopes, list):
        raise StoreCorrupt("affected_scopes is not a JSON array")
    body["affected_scopes"] = scopes
    for name in sorted(maps):
        value: Body | None
        if name == "evidence":
            value = _evidence(row, status)
        else:
            value = _open_object(row, _OBJECT_FIELDS[name])
        if value is not None and (name != "committed_metadata" or status == "COMMITTED"):
            body[name] = value
    return body


def _evidence(row: Row, status: str) -> Body | None:
    """The references that are recorded whole, by artifact type."""
    evidence: Body = {}
    for artifact in ("reserve", _ARTIFACT_OF.get(status)):
        evidence_id = row.get(f"{artifact}_evidence_id")
        url = row.get(f"{artifact}_evidence_url")
        if artifact and evidence_id and url:
            evidence[artifact] = {
                "evidence_id": evidence_id.decode(),
                "cycles_evidence_url": url.decode(),
            }
    return evidence or None


def _json(row: Row, field: str) -> Any:
    """A stored JSON value; None where the field is absent."""
    try:
        return orjson.loads(row[field]) if field in row else None
    except orjson.JSONDecodeError:
        raise StoreCorrupt(f"{field} is not JSON") from None


def _open_object(row: Row, field: str) -> StoredObject | None:
    """A client's own object, byte for byte; None where it is absent or null."""
    try:
        return stored_object(row[field]) if field in row else None
    except (ValueError, RecursionError):
        raise StoreCorrupt(f"{field} is not a JSON object") from None


def _object_without_nulls(row: Row, field: str) -> Body:
    """Subject or action. Another server writes members that were not given as null, which the
    contract's schemas do not admit."""
    value = _json(row, field)
    if not isinstance(value, dict):
        raise StoreCorrupt(f"{field} is not a JSON object")
    members: Body = without_nulls(value)
    return members
