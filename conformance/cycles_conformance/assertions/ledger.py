"""What ``/v1/balances`` tells of the ledger, and whether it adds up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.assertions.matching import match, shown
from cycles_conformance.values import MISSING

AMOUNTS = ("allocated", "remaining", "reserved", "spent", "debt")
TOLD = (*AMOUNTS, "overdraft_limit")
_ZERO_WHEN_ABSENT = ("debt",)


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
    told = [balance[member] for member in TOLD if member in balance]
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
