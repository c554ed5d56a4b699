"""``ledger``: the balances of the case's tenants against the rows that a step names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from cycles_conformance.assertions.ledger import TOLD, check_rows
from cycles_conformance.assertions.matching import is_number, shown
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.pages import pages
from cycles_conformance.execution.request import POLL_SECONDS, ask
from cycles_conformance.failures import UnusableAnswer
from cycles_conformance.results import Problem

_PAGES = 100


def run_ledger(context: CaseContext, step: Mapping[str, Any], label: str) -> None:
    """Raises CaseEnded."""
    deadline = time.monotonic() + step.get("within", 0)
    while True:
        last = time.monotonic() >= deadline
        problems: list[Problem] = []
        for tenant in dict.fromkeys(row.get("tenant", "tenant") for row in step["ledger"]):
            problems += _problems_of(context, tenant, step["ledger"], label)
        context.patience.check(step)
        if not problems or last:
            break
        time.sleep(POLL_SECONDS)
    if problems:
        context.fail(problems)


def read_balances(
    context: CaseContext, tenant: str, scopes: Iterable[str], label: str
) -> tuple[list[Any], Answer]:
    """The balances of a tenant (by its name in the case), those of ``scopes`` (paths below the
    tenant) at least, and the last answer. Raises CaseEnded, UnusableAnswer.

    Whether a query for the tenant alone also brings the scopes below it is left to the server:
    what it did not bring is asked for by its own levels.
    """

    def page(query: Mapping[str, Any]) -> Answer:
        return ask(context, {"do": "balances", "as": tenant, "query": query}, label)

    rows: list[Any] = []
    for scope in ("", *filter(None, scopes)):
        if scope and any(_below(row["scope_path"]) == scope.lower() for row in rows):
            continue
        levels = dict(part.split(":", 1) for part in scope.split("/") if part)
        for answer in pages(page, {"limit": 200, **levels}, _PAGES):
            # Unsorted paging may bring a row again; two that differ are for the checks to find.
            for row in _rows(answer):
                if row not in rows:
                    rows.append(row)
    return rows, answer


def _problems_of(context: CaseContext, tenant: str, rows: Any, label: str) -> list[Problem]:
    values = context.values(tenant)
    wanted = [
        values.resolve({"scope": "", "unit": "${unit}", **row})
        for row in rows
        if row.get("tenant", "tenant") == tenant
    ]
    balances, last = read_balances(context, tenant, [row["scope"] for row in wanted], label)
    return [
        context.problem(message, label, last)
        for message in check_rows(context.prepared.tenants[tenant], wanted, balances)
    ]


def _rows(answer: Answer) -> list[Any]:
    """The balances of one page. Raises UnusableAnswer unless each names its scope and its unit and
    every amount is a number: the contract in use may ask for less."""
    rows = answer.told("/balances", list)
    for row in rows:
        sound = isinstance(row, dict) and isinstance(row.get("scope_path"), str)
        told = [row[member] for member in TOLD if member in row] if sound else []
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
