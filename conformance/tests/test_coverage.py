"""What a collection claims of a contract: on a contract small enough to see through."""

from __future__ import annotations

from pathlib import Path

import pytest
from cycles_conformance.casefiles.loading import load
from cycles_conformance.contract import Contract
from cycles_conformance.coverage import Coverage, measure

CONTRACT = Contract(
    """
openapi: 3.1.0
info:
  title: Small
  version: "1"
  description: |
    # Rules
    A server MUST count exactly. Clients SHOULD retry.

    ## Money
    - Debt MUST NOT vanish,
      whatever happens.
    - Nothing is said here.
paths:
  /v1/reservations:
    post:
      operationId: createReservation
      description: A grant MUST be kept.
      responses:
        "200": {description: It is granted.}
        "401": {description: It MUST say why.}
        "409": {description: It is refused.}
    get:
      operationId: listReservations
      responses: {"200": {description: Rows.}, "400": {description: A bad filter.}}
  /v1/balances:
    get:
      operationId: getBalances
      responses: {"200": {description: Rows.}}
components:
  schemas:
    ErrorCode:
      type: string
      description: A code is one of these.
      enum: [BUDGET_EXCEEDED, BUDGET_FROZEN, UNAUTHORIZED, NOT_FOUND]
"""
)

OTHER_EDITION = """
openapi: 3.1.0
info: {title: Other, version: "2", description: "# Rules\\nA server MUST count exactly."}
paths: {/v1/reservations: {post: {operationId: createReservation}}}
"""

CLAUSES = """
runtime:
  Rules:
    small.exact: {says: A server MUST count exactly.}
  Money:
    small.debt: {says: "Debt MUST NOT vanish, whatever happens."}
  schema ErrorCode:
    small.schema: {declares: the codes, shape: {/type: string}}
"""
CASES = """
area: small
about: All that a test of coverage needs.
cases:
  - id: first
    level: MUST
    clause: [small.exact, small.debt]
    why: w
    steps:
      - {do: reserve, expect: {status: 200, body: {reason_code: {$one_of: [BUDGET_CLOSED]}}}}
      - do: reserve
        readings:
          - {saw: a, status: 409, error: BUDGET_EXCEEDED}
          - {saw: b, status: 409, body: {error: {$one_of: [NOT_FOUND]}, reason_code: TENANT_CLOSED}}
  - id: second
    level: MAY
    clause: [small.exact, small.schema]
    why: w
    steps:
      - parallel: [{do: reserve}, {do: reserve}]
        outcomes: [{status: [200, 401], error: UNAUTHORIZED, count: 2}]
      - {pages: list}
"""


@pytest.fixture
def found(tmp_path: Path) -> Coverage:
    (tmp_path / "clauses.yaml").write_text(CLAUSES)
    (tmp_path / "small.yaml").write_text(CASES)
    return measure(load(tmp_path, {"runtime": CONTRACT}), CONTRACT)


def test_claimed(found: Coverage) -> None:
    assert [(s.at, s.text, s.cases, s.declared) for s in found.claimed] == [
        ("Rules", "A server MUST count exactly.", ("first", "second"), False),
        # In the section that it stands in, and over the end of a line.
        ("Money", "Debt MUST NOT vanish, whatever happens.", ("first",), False),
        ("schema ErrorCode", "the codes", ("second",), True),
    ]


def test_unclaimed(found: Coverage) -> None:
    assert [(s.at, s.text) for s in found.unclaimed] == [
        ("Rules", "Clients SHOULD retry."),
        ("createReservation", "A grant MUST be kept."),
        ("createReservation", "It MUST say why."),
    ]


def test_words_that_another_edition_does_not_have(found: Coverage, tmp_path: Path) -> None:
    assert found.misquoted == []
    other = Contract(OTHER_EDITION)
    misquoted = measure(load(tmp_path, {"runtime": CONTRACT}), other).misquoted
    assert [clause.clause_id for clause in misquoted] == ["small.debt", "small.schema"]


def test_what_is_not_reached(found: Coverage) -> None:
    assert found.operations == {
        "listReservations": ["400"],
        "getBalances": ["no case sends a request to it"],
    }
    assert found.errors == ["BUDGET_FROZEN"]
    assert found.reasons == [
        "BUDGET_EXCEEDED",
        "BUDGET_FROZEN",
        "BUDGET_NOT_FOUND",
        "OVERDRAFT_LIMIT_EXCEEDED",
        "DEBT_OUTSTANDING",
    ]
