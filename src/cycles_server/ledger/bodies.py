"""Response bodies from what scripts answer and records hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from cycles_server.scopes import leaf
from cycles_server.store.errors import StoreCorrupt

Body = dict[str, Any]


def without_nulls(value: Any) -> Any:
    """An object without the members that are null: the contract's optional members are absent,
    the reference writes them out."""
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if item is not None}


def stored_scopes(text: bytes | None) -> list[str]:
    """The scopes in a record's JSON array.

    Raises:
        StoreCorrupt: they are not there, or no such array.
    """
    try:
        scopes = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        scopes = None
    if not isinstance(scopes, list) or not scopes:
        raise StoreCorrupt("a record's scopes cannot be read")
    return scopes


def stored_answer(text: bytes) -> Body:
    """The body of a first answer, as it is kept for a replay.

    Raises:
        StoreCorrupt: it is not a JSON object.
    """
    answer: Body = without_nulls(stored_object(text, "a first answer"))
    if "caps" in answer:
        answer["caps"] = without_nulls(answer["caps"])
    return answer


def stored_object(text: bytes, what: str) -> Body:
    """A JSON object in the store.

    Raises:
        StoreCorrupt: it is none; names it by ``what``.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise StoreCorrupt(f"{what} is not a JSON object")
    return value


def amount(unit: str, value: int | str) -> Body:
    """An Amount of the contract."""
    return {"unit": unit, "amount": int(value)}


def balance(
    scope: str,
    unit: str,
    *,
    remaining: str,
    reserved: str,
    spent: str,
    allocated: str,
    debt: str = "0",
    overdraft_limit: str = "0",
    over: bool = False,
) -> Body:
    """A Balance of the contract; debt, limit and flag only where there are any."""
    body: Body = {
        "scope": leaf(scope),
        "scope_path": scope,
        "remaining": {"unit": unit, "amount": int(remaining)},
        "reserved": {"unit": unit, "amount": int(reserved)},
        "spent": {"unit": unit, "amount": int(spent)},
        "allocated": {"unit": unit, "amount": int(allocated)},
    }
    if debt != "0":
        body["debt"] = {"unit": unit, "amount": int(debt)}
    if overdraft_limit != "0":
        body["overdraft_limit"] = {"unit": unit, "amount": int(overdraft_limit)}
    if over:
        body["is_over_limit"] = True
    return body


def balances(snapshot: bytes, scopes: Sequence[str], unit: str) -> list[Body]:
    """The balances in a script's snapshot (see lua/lib/budgets.lua).

    Raises:
        StoreCorrupt: it is not there, or no such snapshot.
    """
    try:
        return _balances(snapshot, scopes, unit)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"the balances of a first answer cannot be read: {error!r}") from error


def _balances(snapshot: bytes, scopes: Sequence[str], unit: str) -> list[Body]:
    result = []
    for row in snapshot.decode().split(";") if snapshot != b"" else ():
        place, _, amounts = row.partition(":")
        fields = amounts.split(",")
        scope = scopes[int(place) - 1]
        if len(fields) == 4:
            remaining, reserved, spent, allocated = fields
            debt = limit = over = "0"
        else:
            remaining, reserved, spent, allocated, debt, limit, over = fields
        result.append(
            balance(
                scope,
                unit,
                remaining=remaining,
                reserved=reserved,
                spent=spent,
                allocated=allocated,
                debt=debt,
                overdraft_limit=limit,
                over=over == "1",
            )
        )
    return result


def reservation_body(
    reservation_id: str,
    unit: str,
    held: int | str,
    *,
    expires_at_ms: int,
    remaining_ttl_ms: int,
    scope_path: str,
    affected_scopes: Sequence[str],
    caps: bytes | None,
    balances: list[Body],
) -> Body:
    """ReservationCreateResponse of a live reserve.

    Raises:
        StoreCorrupt: the caps cannot be read.
    """
    body: Body = {
        "decision": "ALLOW_WITH_CAPS" if caps else "ALLOW",
        "reservation_id": reservation_id,
        "reserved": amount(unit, held),
        "expires_at_ms": expires_at_ms,
        "remaining_ttl_ms": remaining_ttl_ms,
        "scope_path": scope_path,
        "affected_scopes": affected_scopes,
        "balances": balances,
    }
    if caps:
        body["caps"] = without_nulls(stored_object(caps, "caps"))
    return body
