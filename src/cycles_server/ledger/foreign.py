"""Replays of what another server of the protocol did on the same store.

The reference keeps the whole body of a first answer for a while, and a snapshot of it in the
record for as long as that lives; a debit and an extension have a snapshot alone. Its hash of the
request cannot be reproduced here, so a request is told from another one by what the record holds.
A member that the record does not hold tells nothing.

What is read here was written once, with the mutation itself: reading it after the script takes
nothing from the script's atomicity.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from cycles_server.auth.records import CLOSED, OPEN, UNREADABLE
from cycles_server.jsontext import write_json
from cycles_server.ledger.accounts import Account
from cycles_server.ledger.bodies import (
    Body,
    amount,
    balance,
    reservation_body,
    stored_answer,
    stored_object,
    stored_scopes,
    without_nulls,
)
from cycles_server.ledger.refusals import refusal
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

Answer = tuple[Body, str]
"""A first answer's body, and the overage policy that was applied (empty for none)."""

_Row = dict[str, bytes]

# What a different request under the same key is told: the tenant's guard comes first.
_MISMATCH = {
    OPEN: "IDEMPOTENCY_MISMATCH",
    CLOSED: "TENANT_CLOSED",
    UNREADABLE: "TENANT_UNREADABLE",
}
_RESERVE = {"subject": "subject_json", "action": "action_json", "metadata": "metadata_json"}
_COMMIT = {"metrics": "committed_metrics_json", "metadata": "committed_metadata_json"}
_EVENT = {**_RESERVE, "metrics": "metrics_json"}
_SETTLED = ("estimate_amount", "estimate_unit")


class ForeignAnswers:
    """First answers that another server gave. Every method raises, when awaited:

    - ``Refusal`` if the key was used for another request,
    - ``StoreError`` when the store failed, ``StoreCorrupt`` where a record cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reserve(
        self, request: Body, account: Account, reservation_id: str, now_ms: int
    ) -> Answer:
        """The answer to a reserve, ``remaining_ttl_ms`` fresh."""
        fields = (
            *("estimate_amount", "estimate_unit", "overage_policy", "state", "expires_at"),
            *("scope_path", "affected_scopes", "reserve_response_json", *_RESERVE.values()),
        )
        row, body = await self._read(account, "reserve", reservation_id, fields)
        estimate = request["estimate"]
        policy = _text(row, "overage_policy")
        if not (
            str(estimate["amount"]) == _text(row, "estimate_amount")
            and estimate["unit"] == _text(row, "estimate_unit")
            and request.get("overage_policy", policy) == policy
            and _same(request, row, _RESERVE)
        ):
            raise _mismatch(account)
        if body is None:
            body = _reserved(row, reservation_id)
        live = row.get("state") == b"ACTIVE"
        body["remaining_ttl_ms"] = max(0, _int(body, "expires_at_ms") - now_ms) if live else 0
        return body, policy

    async def commit(self, request: Body, account: Account, reservation_id: str) -> Answer:
        """The answer to a commit."""
        fields = (
            *("charged_amount", "overage_policy", "commit_response_json"),
            *(*_SETTLED, *_COMMIT.values()),
        )
        row, body = await self._read(account, "commit", reservation_id, fields)
        unit, policy = _text(row, "estimate_unit"), _text(row, "overage_policy")
        charged, estimate = _int(row, "charged_amount"), _int(row, "estimate_amount")
        actual = request["actual"]
        # Only what goes beyond the estimate is ever cut down to what the budgets can bear.
        cut = policy != "REJECT" and estimate <= charged < actual["amount"]
        if not (
            actual["unit"] == unit
            and (charged == actual["amount"] or cut)
            and _same(request, row, _COMMIT)
        ):
            raise _mismatch(account)
        if body is None:
            body = {"status": "COMMITTED", "charged": amount(unit, charged)}
            if charged < estimate:
                body["released"] = amount(unit, estimate - charged)
            body["balances"] = _balances(_snapshot(row, "commit_response_json"), unit)
        return body, policy

    async def release(self, account: Account, reservation_id: str) -> Answer:
        """The answer to a release. Of its request nothing is kept to compare."""
        fields = ("release_response_json", *_SETTLED)
        row, body = await self._read(account, "release", reservation_id, fields)
        if body is None:
            unit = _text(row, "estimate_unit")
            body = {
                "status": "RELEASED",
                "released": amount(unit, _int(row, "estimate_amount")),
                "balances": _balances(_snapshot(row, "release_response_json"), unit),
            }
        return body, ""

    async def debit(self, request: Body, account: Account, event_id: str) -> Answer:
        """The answer to a direct debit."""
        fields = ("amount", "charged_amount", "unit", "event_response_json", *_EVENT.values())
        reply = await self._store.read("HMGET", account.names.event(event_id), *fields)
        row = _row(fields, reply)
        actual = request["actual"]
        asked, unit = _int(row, "amount"), _text(row, "unit")
        if not (
            actual["amount"] == asked and actual["unit"] == unit and _same(request, row, _EVENT)
        ):
            raise _mismatch(account)
        body: Body = {"status": "APPLIED", "event_id": event_id}
        charged = _int(row, "charged_amount") if row.get("charged_amount") else asked
        if charged != asked:
            body["charged"] = amount(unit, charged)
        body["balances"] = _balances(_snapshot(row, "event_response_json"), unit)
        return body, ""

    async def _read(
        self, account: Account, operation: str, reservation_id: str, fields: tuple[str, ...]
    ) -> tuple[_Row, Body | None]:
        """The reservation's fields, and the body of the first answer while that is kept."""
        names = account.names
        reply, body = await asyncio.gather(
            self._store.read("HMGET", names.reservation(reservation_id), *fields),
            self._store.read("GET", names.first_answer(operation, reservation_id)),
        )
        return _row(fields, reply), stored_answer(body) if body else None


def extended(record: bytes, state: bytes, now_ms: int) -> Body:
    """The answer to an extension, from its record; ``remaining_ttl_ms`` fresh.

    Raises:
        StoreCorrupt: the record cannot be read.
    """
    kept = stored_object(record, "an extension's record")
    expires = _int(kept, "expires_at_ms")
    return {
        "status": "ACTIVE",
        "expires_at_ms": expires,
        "remaining_ttl_ms": max(0, expires - now_ms) if state == b"ACTIVE" else 0,
        "balances": _balances(kept, str(kept.get("estimate_unit"))),
    }


# -- reading -------------------------------------------------------------------------------------


def _row(fields: tuple[str, ...], reply: list[bytes | None]) -> _Row:
    """The fields that are there; an empty one is, and says that the member was not sent."""
    return {field: value for field, value in zip(fields, reply, strict=True) if value is not None}


def _text(row: _Row, field: str) -> str:
    return row.get(field, b"").decode(errors="replace")


def _int(row: Mapping[str, Any], field: str) -> int:
    try:
        return int(row[field])
    except (KeyError, TypeError, ValueError):
        raise StoreCorrupt(f"{field} is not an integer") from None


def _snapshot(row: _Row, field: str) -> Body:
    """What the record keeps of the answer; an empty one where it keeps nothing."""
    return stored_object(row.get(field) or b"{}", field)


def _balances(kept: Body, unit: str) -> list[Body]:
    """The balances in a snapshot; Lua writes an array without members as an object."""
    try:
        return [
            balance(
                row["scope"],
                unit,
                remaining=str(row["remaining"]),
                reserved=str(row["reserved"]),
                spent=str(row["spent"]),
                allocated=str(row["allocated"]),
                debt=str(row.get("debt") or "0"),
                overdraft_limit=str(row.get("overdraft_limit") or "0"),
                over=row.get("is_over_limit") is True,
            )
            for row in kept.get("balances") or ()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StoreCorrupt("the balances of a first answer cannot be read") from None


def _reserved(row: _Row, reservation_id: str) -> Body:
    """The answer to a reserve, from its snapshot."""
    kept = _snapshot(row, "reserve_response_json")
    caps, unit = kept.get("caps_json"), _text(row, "estimate_unit")
    # An extension moved the field `expires_at`; the snapshot has the first one.
    expires = _int(kept if "expires_at" in kept else row, "expires_at")
    return reservation_body(
        reservation_id,
        unit,
        _text(row, "estimate_amount"),
        expires_at_ms=expires,
        remaining_ttl_ms=0,
        scope_path=_text(row, "scope_path"),
        affected_scopes=stored_scopes(row.get("affected_scopes")),
        caps=caps.encode() if isinstance(caps, str) else None,
        balances=_balances(kept, unit),
    )


# -- comparing -----------------------------------------------------------------------------------


def _mismatch(account: Account) -> Refusal:
    return refusal(_MISMATCH[account.policy.guard])


def _same(request: Body, row: _Row, members: Mapping[str, str]) -> bool:
    """Whether every member that the record holds is that of the request."""
    return all(
        _alike(member, request.get(member), row[field])
        for member, field in members.items()
        if field in row
    )


def _alike(member: str, sent: Any, stored: bytes) -> bool:
    # The reference writes out what was not sent, as null or as empty.
    try:
        kept = json.loads(stored or b"null") or None
    except ValueError:
        raise StoreCorrupt(f"{member} of a record is not JSON") from None
    # Numbers as the reference read them: integers exactly, others as doubles.
    sent = json.loads(write_json(sent or None))
    if member != "metadata":
        sent, kept = without_nulls(sent), without_nulls(kept)
    return _equal(sent, kept)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other  # to Python, true equals 1
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _equal(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
