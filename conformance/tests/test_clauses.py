"""The file of clauses: every sentence once, where the contract has it, and none without a case."""

from __future__ import annotations

from pathlib import Path

import pytest
from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.contract import Contract
from cycles_conformance.contract_text import texts
from fake_cycles import case_file

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
paths:
  /v1/reservations:
    post:
      operationId: createReservation
      description: A grant MUST be kept.
      parameters: [{name: limit, in: query, schema: {type: integer, maximum: 5}}]
components:
  schemas:
    ErrorCode: {type: string, description: A code is one of these.}
"""
)


def test_places_of_the_contract() -> None:
    places = dict(texts(CONTRACT))
    assert list(places) == ["Rules", "Money", "createReservation", "schema ErrorCode"]
    # A section holds its subsections.
    assert "Debt MUST NOT" in places["Rules"]
    assert "count exactly" not in places["Money"]


def faults(folder: Path, clauses: str, refers_to: str) -> list[str]:
    case_file(folder, "- do: reserve")
    path = folder / "tests.yaml"
    path.write_text(path.read_text().replace("clause: tests.one", f"clause: {refers_to}"))
    (folder / "clauses.yaml").write_text(clauses)
    try:
        load(folder, {"runtime": CONTRACT})
    except CaseFileError as error:
        return str(error).split("\n")
    return []


@pytest.mark.parametrize(
    "place",
    [
        "Rules: {a: {says: A server MUST count exactly.}}",
        "Rules: {a: {says: MUST count}}",
        # Over the end of a line and without the mark of the list.
        'Money: {a: {says: "Debt MUST NOT vanish, whatever happens."}}',
        'Rules: {a: {says: "Debt MUST NOT vanish"}}',
        "createReservation: {a: {declares: so called, shape: {/operationId: createReservation}}}",
        "schema ErrorCode: {a: {declares: a text, shape: {/type: string, /enum: null}}}",
        # A parameter by its name.
        "createReservation: {a: {declares: at most 5,"
        " shape: {/parameters/limit/schema/maximum: 5, /parameters/other: null}}}",
    ],
)
def test_clauses_of_the_contract(tmp_path: Path, place: str) -> None:
    assert faults(tmp_path, f"runtime: {{{place}}}", "a") == []


@pytest.mark.parametrize(
    ("places", "refers_to", "says"),
    [
        (
            "Rules: {a: {says: MUST count}}",
            "[a, b]",
            "tests.yaml: case the-case: clause: no clause",
        ),
        (
            "Rules: {a: {says: MUST count}, b: {says: Clients SHOULD retry}}",
            "a",
            "clauses.yaml: clause b: no case refers to it",
        ),
        (
            "Rules: {a: {says: A server MUST count roughly.}}",
            "a",
            "clauses.yaml: clause a: 'Rules' does not say: A server MUST count roughly.",
        ),
        (
            "Money: {a: {says: Clients SHOULD retry.}}",
            "a",
            "clauses.yaml: clause a: 'Money' does not say: Clients SHOULD retry.",
        ),
        (
            "Manners: {a: {says: be kind}}",
            "a",
            "clauses.yaml: clause a: the contract has no place 'Manners'",
        ),
        (
            "Rules: {a: {says: MUST count}, b: {says: A server MUST count exactly.}}",
            "[a, b]",
            "clauses.yaml: clause b: says what clause a says",
        ),
        (
            "createReservation: {a: {declares: one POST, shape: {/operationId: createReservation}},"
            " b: {declares: one POST, shape: {/operationId: createReservation}}}",
            "[a, b]",
            "clauses.yaml: clause b: says what clause a says",
        ),
        (
            "Rules: {a: {says: MUST count}}, createReservation: {a: {says: A grant MUST be kept}}",
            "a",
            "clauses.yaml: clause a: another clause has this id",
        ),
        (
            "schema ErrorCode: {a: {declares: a number, shape: {/type: integer}}}",
            "a",
            'clauses.yaml: clause a: \'schema ErrorCode\' has "string" at /type, not "integer"',
        ),
        (
            "schema ErrorCode: {a: {declares: a few, shape: {/enum: [A, B]}}}",
            "a",
            'clauses.yaml: clause a: \'schema ErrorCode\' has nothing at /enum, not ["A", "B"]',
        ),
        (
            "createReservation: {a: {declares: it is free}}",
            "a",
            "tests.yaml: case the-case: a MUST needs a clause with a quote or a shape",
        ),
        (
            "Rules: {a: {says: MUST count, declares: x}}",
            "a",
            'clauses.yaml: runtime/Rules/a: {"says": "MUST count", "declares": "x"} cannot',
        ),
        ("Rules: {A b: {says: MUST count}}", "a", "clauses.yaml: runtime/Rules: 'A b' does not"),
    ],
)
def test_clauses_with_a_fault(tmp_path: Path, places: str, refers_to: str, says: str) -> None:
    found = faults(tmp_path, f"runtime: {{{places}}}", refers_to)
    assert len(found) == 1
    assert found[0].startswith(says), found


def test_two_places_may_say_the_same(tmp_path: Path) -> None:
    places = "Rules: {a: {says: Debt MUST NOT}}, Money: {b: {says: Debt MUST NOT}}"
    assert faults(tmp_path, f"runtime: {{{places}}}", "[a, b]") == []
