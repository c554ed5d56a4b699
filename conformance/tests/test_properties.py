"""What the property checks foretell, held against the words of the contract.

The tables are made from the contract's schema CommitOveragePolicy and its rules on refusals, not
from the code that they test.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from cycles_conformance.client import Answer
from cycles_conformance.failures import UnusableAnswer
from cycles_conformance.planes import operations_of_runtime
from cycles_conformance.properties import PROPERTIES
from cycles_conformance.properties.base import Books, charged_of
from cycles_conformance.properties.walk import (
    CAPPED,
    LARGE,
    OVERDRAWN,
    Ledger,
    Scenario,
    State,
    Walk,
)
from cycles_conformance.results import Exchange
from fake_cycles import CONTRACT

BUDGETS = {"": 1000, "workspace:a": 500, "workspace:a/agent:x": 100, "agent:x": 50}


# -- the books ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "scopes"),
    [
        ({}, [""]),
        ({"workspace": "a"}, ["", "workspace:a"]),
        # In the contract's order of levels, not that of the subject; gaps are passed over.
        ({"agent": "x", "workspace": "a"}, ["", "workspace:a", "workspace:a/agent:x"]),
        ({"agent": "x"}, ["", "agent:x"]),
        # Between the levels stands one more, so these are other scopes.
        ({"workspace": "a", "app": "m", "agent": "x"}, ["", "workspace:a"]),
        ({"workspace": "b", "agent": "x"}, [""]),
    ],
)
def test_the_budgeted_scopes_of_a_subject(subject: dict[str, str], scopes: list[str]) -> None:
    assert Books(BUDGETS).scopes(subject) == scopes


def test_books_of_a_life() -> None:
    books = Books(BUDGETS)
    subject = {"workspace": "a"}
    books.reserve(subject, 40)
    books.reserve(subject, 7)
    assert dict(books.reserved) == {"": 47, "workspace:a": 47}
    # A commit of less gives the rest back, one of more charges more than was held.
    books.settle(subject, 40, 15)
    books.settle(subject, 7, 9)
    # A release charges nothing, and an event has held nothing.
    books.reserve(subject, 5)
    books.settle(subject, 5, 0)
    books.settle({}, 0, 3)
    assert dict(books.reserved) == {"": 0, "workspace:a": 0}
    assert books.used[""] == 27
    assert books.used["workspace:a"] == 24


def answer(body: Any) -> Answer:
    text = json.dumps(body)
    exchange = Exchange("step", "POST", "http://x/v1/events", {}, None, 201, {}, text, 1.0)
    return Answer(201, {}, text, body, exchange)


def test_what_an_answer_says_it_charged() -> None:
    assert charged_of(answer({"charged": {"unit": "TOKENS", "amount": 3}}), 5) == 3
    # To JSON Schema it is an integer.
    assert charged_of(answer({"charged": {"unit": "TOKENS", "amount": 3.0}}), 5) == 3
    assert charged_of(answer({"status": "APPLIED"}), 5) == 5
    for amount in ("3", True, 3.5):
        with pytest.raises(UnusableAnswer):
            charged_of(answer({"charged": {"unit": "TOKENS", "amount": amount}}), 5)


# -- what a charge does ---------------------------------------------------------------------------


def walk(overdraft_limit: int = 0) -> Walk:
    scenario = Scenario({"": 0}, ({},), (1,), ("REJECT",), overdraft_limit=overdraft_limit)
    no_session: Any = None
    return Walk(scenario, no_session, Random(1))


def state(remaining: int, reserved: int = 0, debt: int = 0, over: bool = False) -> State:
    return State(reserved=reserved, remaining=remaining, debt=debt, over=over)


REJECT, CAP, DEBT = "REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT"


@pytest.mark.parametrize(
    ("policy", "estimate", "actual", "remaining", "refused", "charged", "left", "debt", "over"),
    [
        # Nothing beyond the estimate: the policy has no say, and the rest comes back.
        (REJECT, 100, 100, 0, None, 100, 0, 0, False),
        (REJECT, 100, 30, 0, None, 30, 70, 0, False),
        (CAP, 100, 30, 5, None, 30, 75, 0, False),
        (DEBT, 100, 0, 5, None, 0, 105, 0, False),
        # REJECT: the commit is refused, however much is left.
        (REJECT, 100, 101, 900, "BUDGET_EXCEEDED", 0, 900, 0, False),
        # ALLOW_IF_AVAILABLE: remaining covers all of delta.
        (CAP, 100, 150, 50, None, 150, 0, 0, False),
        (CAP, 100, 150, 51, None, 150, 1, 0, False),
        # … or delta is cut down to what is left, and the scope is over its limit.
        (CAP, 100, 150, 49, None, 149, 0, 0, True),
        (CAP, 100, 150, 0, None, 100, 0, 0, True),
        # "Not below 0": remaining can be negative after a change of policy.
        (CAP, 100, 150, -20, None, 100, -20, 0, True),
        # ALLOW_WITH_OVERDRAFT: if remaining covers delta, an ordinary commit.
        (DEBT, 100, 150, 50, None, 150, 0, 0, False),
        # If not, delta becomes debt, and remaining may fall below zero.
        (DEBT, 100, 130, 10, None, 130, -20, 30, False),
        (DEBT, 100, 140, 39, None, 140, -1, 40, False),
        # debt + delta <= overdraft_limit (40) is the test.
        (DEBT, 100, 141, 39, "OVERDRAFT_LIMIT_EXCEEDED", 0, 39, 0, False),
    ],
)
def test_a_commit_on_one_scope(
    policy: str,
    estimate: int,
    actual: int,
    remaining: int,
    refused: str | None,
    charged: int,
    left: int,
    debt: int,
    over: bool,
) -> None:
    ledger: Ledger = {"": state(remaining, reserved=estimate)}
    assert walk(40)._charge(ledger, [""], policy, estimate, actual) == (refused, charged)
    after = estimate if refused else 0
    assert ledger[""] == state(left, reserved=after, debt=debt, over=over)


@pytest.mark.parametrize(
    ("policy", "actual", "refused", "charged", "remaining", "debts", "over"),
    [
        # The least remaining of the affected scopes decides.
        (CAP, 20, None, 20, [80, 10], [0, 5], [False, False]),
        (CAP, 50, None, 30, [70, 0], [0, 5], [False, True]),
        (CAP, 200, None, 30, [70, 0], [0, 5], [True, True]),
        # Debt arises at all of them, though one could have paid.
        (DEBT, 35, None, 35, [65, -5], [35, 40], [False, False]),
        # The limit holds at each of them: 5 are owed already.
        (DEBT, 36, "OVERDRAFT_LIMIT_EXCEEDED", 0, [100, 30], [0, 5], [False, False]),
        (REJECT, 30, None, 30, [70, 0], [0, 5], [False, False]),
        (REJECT, 31, "BUDGET_EXCEEDED", 0, [100, 30], [0, 5], [False, False]),
    ],
)
def test_an_event_on_two_scopes(
    policy: str,
    actual: int,
    refused: str | None,
    charged: int,
    remaining: list[int],
    debts: list[int],
    over: list[bool],
) -> None:
    ledger: Ledger = {"": state(100), "agent:x": state(30, debt=5)}
    told = walk(40)._charge(ledger, ["", "agent:x"], policy, 0, actual, event=True)
    assert told == (refused, charged)
    assert [row.remaining for row in ledger.values()] == remaining
    assert [row.debt for row in ledger.values()] == debts
    assert [row.over for row in ledger.values()] == over


def test_a_charge_leaves_other_scopes_alone() -> None:
    ledger: Ledger = {"": state(100), "agent:x": state(30), "agent:y": state(1)}
    walk()._charge(ledger, ["", "agent:x"], CAP, 0, 500, event=True)
    assert ledger["agent:y"] == state(1)


def test_no_digit_is_lost() -> None:
    ledger: Ledger = {"": state(2**62 + 1, reserved=2**61 + 1)}
    assert walk()._charge(ledger, [""], CAP, 2**61 + 1, 2**61 + 2**60 + 3) == (
        None,
        2**61 + 2**60 + 3,
    )
    assert ledger[""] == state(2**62 + 1 - 2**60 - 2)


# -- why a reservation is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "estimate", "refusals"),
    [
        ([state(100)], 100, {None}),
        ([state(100)], 101, {"BUDGET_EXCEEDED"}),
        ([state(100), state(10)], 11, {"BUDGET_EXCEEDED"}),
        ([state(0)], 0, {None}),
        ([state(-5)], 0, {"BUDGET_EXCEEDED"}),
        # Over the limit blocks every new reservation, whatever is left.
        ([state(100, over=True)], 1, {"OVERDRAFT_LIMIT_EXCEEDED"}),
        ([state(100), state(100, over=True)], 500, {"OVERDRAFT_LIMIT_EXCEEDED"}),
        # Debt may block, or may not where the limit permits debt.
        ([state(100, debt=1)], 1, {None, "DEBT_OUTSTANDING"}),
        ([state(100), state(0, debt=1)], 1, {"BUDGET_EXCEEDED", "DEBT_OUTSTANDING"}),
    ],
)
def test_why_a_reservation_may_be_refused(
    states: list[State], estimate: int, refusals: set[str | None]
) -> None:
    ledger = {f"agent:{number}": row for number, row in enumerate(states)}
    assert walk(40)._refusals(ledger, list(ledger), estimate) == refusals


# -- the properties themselves --------------------------------------------------------------------


def test_properties_are_fit_to_run() -> None:
    assert len({check.id for check in PROPERTIES}) == len(PROPERTIES)
    for check in PROPERTIES:
        assert check.operations <= operations_of_runtime(CONTRACT.operations), check.id
        tenants = {tenant.name for tenant in check.given.tenants}
        assert {budget.tenant for budget in check.given.budgets} == tenants, check.id


@pytest.mark.parametrize("scenario", [CAPPED, OVERDRAWN, LARGE])
def test_scenarios_stay_within_int64(scenario: Scenario) -> None:
    for budget in scenario.budgets():
        assert 0 <= budget.allocated < 2**63
        assert budget.overdraft_limit == scenario.overdraft_limit
    policies = set(CONTRACT.enum("CommitOveragePolicy"))
    assert set(scenario.policies) <= policies
    # Debt is only foretold where there is one scope: with more, concurrent limits would differ.
    if scenario.overdraft_limit:
        assert list(scenario.allocated) == [""]
