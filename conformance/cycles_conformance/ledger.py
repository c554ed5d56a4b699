"""What ``/v1/balances`` tells of the ledger, and whether it adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cycles_conformance.client import Answer
from cycles_conformance.failures import UnusableAnswer
from cycles_conformance.matching import MISSING, is_number, match, shown
from cycles_conformance.paging import pages

AMOUNTS = ("allocated", "remaining", "reserved", "spent", "debt")
_TOLD = (*AMOUNTS, "overdraft_limit")
_ZERO_WHEN_ABSENT = ("debt",)
_PAGES = 100


def read_balances(
    page: Callable[[Mapping[str, Any]], Answer], scopes: Iterable[str] = ()
) -> tuple[list[Any], Answer]:
    """The balances of a tenant, those of ``scopes`` (paths below the tenant) at least, and the
    last answer. ``page`` sends one request with a query beside ``tenant``.

    Whether a query for the tenant alone also brings the scopes below it is left to the server:
    what it did not bring is asked for by its own levels.
    """
    rows: list[Any] = []
    for scope in ("", *scopes):
        if scope and any(_below(row["scope_path"]) == scope.lower() for row in rows):
            continue
        levels = dict(part.split(":", 1) for part in scope.split("/") if part)
        for answer in pages(page, {"limit": 200, **levels}, _PAGES):
            # A row that comes twice to one question is for the checks to find.
            known = rows if scope else []
            rows += [row for row in _rows(answer) if row not in known]
    return rows, answer


def _rows(answer: Answer) -> list[Any]:
    """The balances of one page. Raises UnusableAnswer unless each names its scope and its unit and
    every amount is a number: the contract in use may ask for less."""
    rows = answer.told("/balances", list)
    for row in rows:
        sound = isinstance(row, dict) and isinstance(row.get("scope_path"), str)
        told = [row[member] for member in _TOLD if member in row] if sound else []
        sound = sound and "remaining" in row
        if not sound or not all(map(_is_amount, told)):
            raise UnusableAnswer(f"{shown(row)} is no balance")
    return rows


def _is_amount(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and is_number(value.get("amount"))
        and isinstance(value.get("unit"), str)
    )


def _below(scope_path: str) -> str:
    """The path below the tenant; ids in a scope may be lower-cased."""
    return scope_path.partition("/")[2].lower()


def check_rows(tenant_id: str, wanted: list[Any], balances: list[Any]) -> list[str]:
    """What is wrong with the balances, given the rows that a ``ledger`` step names.

    Every balance must satisfy the ledger invariant, the named ones or not.
    """
    problems = [problem for balance in balances for problem in invariant(balance)]
    for row in wanted:
        path = f"tenant:{tenant_id}" + (f"/{row['scope']}" if row["scope"] else "")
        name = f"{path} in {row['unit']}"
        found = [
            balance
            for balance in balances
            # Ids in a scope may be lower-cased.
            if balance["scope_path"].lower() == path.lower()
            and balance["remaining"]["unit"] == row["unit"]
        ]
        if len(found) != 1:
            problems.append(f"{len(found)} balances for {name}, expected one")
            continue
        problems += [f"{name}: {problem}" for problem in _check_row(row, found[0])]
    return problems


def _check_row(row: Mapping[str, Any], balance: Mapping[str, Any]) -> list[str]:
    problems = []
    for member in AMOUNTS:
        if member not in row:
            continue
        value = amount(balance, member)
        if value is None:
            continue
        problems += [
            f"{member} is {value}, expected {shown(row[member])}"
            for _ in match(row[member], value, lambda name, value: [])
        ]
    if "over" in row:
        over = balance.get("is_over_limit", False)
        if over is not row["over"]:
            problems.append(f"is_over_limit is {shown(over)}, expected {shown(row['over'])}")
    return problems


def amount(balance: Mapping[str, Any], member: str) -> int | None:
    """The number, or None when the server does not tell; debt is 0 unless told."""
    value = balance.get(member, MISSING)
    if value is MISSING:
        return 0 if member in _ZERO_WHEN_ABSENT else None
    number: int = value["amount"]
    return number


def invariant(balance: Mapping[str, Any]) -> list[str]:
    """remaining = allocated - spent - reserved - debt, and one unit (contract, schema Balance)."""
    name = balance["scope_path"]
    problems = []
    told = [balance[member] for member in _TOLD if member in balance]
    units = {entry["unit"] for entry in told}
    if len(units) > 1:
        problems.append(f"{name}: a balance in several units: {sorted(units)}")
    parts = [amount(balance, member) for member in ("allocated", "spent", "reserved", "debt")]
    if None not in parts:
        allocated, spent, reserved, debt = (part or 0 for part in parts)
        remaining = amount(balance, "remaining")
        if remaining != allocated - spent - reserved - debt:
            problems.append(
                f"{name}: remaining is {remaining}, and allocated - spent - reserved - debt is "
                f"{allocated} - {spent} - {reserved} - {debt}"
            )
    return problems
