"""Stored reservations: which fields are read, and the body that they make.

A record made by another server lacks what only this one writes; nothing here needs that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from cycles_server.jsontext import INT64_MAX, StoredObject, stored_object
from cycles_server.ledger.bodies import Body, amount
from cycles_server.ledger.refusals import refusal
from cycles_server.ledger.scopes import UNITS
from cycles_server.store.errors import StoreCorrupt, StoreError
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Row = dict[str, bytes]
"""The fields of a reservation's hash that were asked for and have a value."""

STATUSES = ("ACTIVE", "COMMITTED", "RELEASED", "EXPIRED")
ALL_MAPS = frozenset({"metadata", "committed_metadata", "evidence"})
"""The heavy members: in a list only where ``include`` names them."""

_FINAL_FIELD = {"COMMITTED": "committed_at", "RELEASED": "released_at"}
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


# -- reading -------------------------------------------------------------------------------------


async def read_rows(
    store: Store, names: TenantKeys, ids: Sequence[str], fields: Sequence[str]
) -> list[Row | None]:
    """Reservations of one tenant, in the order of ``ids``; ``fields`` must hold ``tenant``.

    None where there is no record (any more), where it is another tenant's, or where it is not a
    hash: one bad record hides itself and no other.

    Raises:
        StoreError: the store failed.
    """
    replies = await asyncio.gather(
        *(store.read_bulk("HMGET", names.reservation(row), *fields) for row in ids),
        return_exceptions=True,
    )
    owner = names.tenant.encode()
    rows: list[Row | None] = []
    for row_id, reply in zip(ids, replies, strict=True):
        if isinstance(reply, StoreCorrupt):
            log_unusable(row_id, reply)
            rows.append(None)
        elif isinstance(reply, BaseException):
            raise reply
        else:
            row = _row(fields, reply)
            rows.append(row if row.get("tenant") == owner else None)
    return rows


def listed_fields(maps: Iterable[str]) -> tuple[str, ...]:
    """The fields of a row that are short by nature."""
    return (*_FIELDS, *_EVIDENCE_FIELDS) if "evidence" in maps else _FIELDS


def _object_fields(maps: Iterable[str]) -> list[str]:
    return [field for name, field in _OBJECT_FIELDS.items() if name in maps]


async def read_lengths(
    store: Store, names: TenantKeys, ids: Sequence[str], maps: Iterable[str]
) -> list[int]:
    """How many bytes the open objects among ``maps`` hold, for each of ``ids``; 0 too where the
    record cannot be read.

    Raises:
        StoreError: the store failed.
    """
    fields = _object_fields(maps)
    replies = await asyncio.gather(
        *(
            store.read_bulk("HSTRLEN", names.reservation(row_id), field)
            for row_id in ids
            for field in fields
        ),
        return_exceptions=True,
    )
    lengths = [0] * len(ids)
    for place, reply in enumerate(replies):
        if isinstance(reply, BaseException) and not isinstance(reply, StoreCorrupt):
            raise reply
        if isinstance(reply, int):
            lengths[place // len(fields)] += reply
    return lengths


async def add_objects(
    store: Store,
    names: TenantKeys,
    rows: dict[str, Row],
    ids: Sequence[str],
    maps: Iterable[str],
) -> None:
    """Read the open objects among ``maps`` into those rows; drop what is gone meanwhile.

    Raises:
        StoreError: the store failed.
    """
    fields = ("tenant", *_object_fields(maps))
    for row_id, row in zip(ids, await read_rows(store, names, ids, fields), strict=True):
        if row is None:
            del rows[row_id]
        else:
            rows[row_id].update(row)


async def find_reservation(store: Store, reservation_id: str) -> Row:
    """A reservation by its id alone, whoever owns it.

    Raises:
        Refusal: 404 for an unknown id.
        StoreError: the store failed, or the record is damaged.
    """
    fields = (*listed_fields(ALL_MAPS), *_OBJECT_FIELDS.values())
    first, *others = store.keys.buckets_of_id(reservation_id)
    row = _row(fields, await store.read("HMGET", first.reservation(reservation_id), *fields))
    if "tenant" in row:
        return row
    elsewhere = await asyncio.gather(
        *(store.read("HMGET", other.reservation(reservation_id), *fields) for other in others)
    )
    for reply in elsewhere:
        row = _row(fields, reply)
        if "tenant" in row:
            return row
    raise refusal("NOT_FOUND")


def _row(fields: Sequence[str], reply: Sequence[bytes | None]) -> Row:
    # Another server writes an optional field that has no value as an empty text.
    return {field: value for field, value in zip(fields, reply, strict=True) if value}


def log_unusable(reservation_id: str, error: StoreError) -> None:
    logger.error("reservation %s left out of a list: %s", reservation_id, error)


# -- what a row says -----------------------------------------------------------------------------


def text_of(row: Row, field: str) -> str:
    """Raises: StoreCorrupt if the field is missing or not UTF-8."""
    try:
        return row[field].decode()
    except (KeyError, UnicodeDecodeError):
        raise StoreCorrupt(f"{field} is missing or unreadable") from None


def number_of(row: Row, field: str) -> int:
    """A time or an amount. Raises: StoreCorrupt if it is none of int64, from 0 up."""
    try:
        number = int(row[field])
    except (KeyError, ValueError):
        raise StoreCorrupt(f"{field} is not an integer") from None
    if not 0 <= number <= INT64_MAX:
        raise StoreCorrupt(f"{field} is out of range")
    return number


def finalized_at_ms(row: Row) -> int | None:
    """When a commit or release ended it, epoch ms; None while ACTIVE, and after an expiry."""
    field = _FINAL_FIELD.get(text_of(row, "state"))
    return number_of(row, field) if field is not None and field in row else None


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
    return {name: member for name, member in value.items() if member is not None}
