"""Which sentences of the contract the cases check, and what of the contract no case reaches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cycles_conformance.casefiles.case import Case, Collection, all_steps
from cycles_conformance.casefiles.clauses import Clause
from cycles_conformance.casefiles.templates import operation_of
from cycles_conformance.contract import Contract
from cycles_conformance.contract_text import HEADING, plain, texts
from cycles_conformance.planes import RUNTIME

REASON_CODES = {
    RUNTIME: (
        "BUDGET_EXCEEDED",
        "BUDGET_FROZEN",
        "BUDGET_CLOSED",
        "BUDGET_NOT_FOUND",
        "OVERDRAFT_LIMIT_EXCEEDED",
        "DEBT_OUTSTANDING",
        "TENANT_CLOSED",
    )
}
"""Those that a contract lists in words: the schema is an open string."""

_NORMATIVE = re.compile(r"\b(MUST|SHALL|SHOULD|REQUIRED|NEVER)\b")
_ITEM = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.|\|) )")
_SENTENCE = re.compile(r"(?<=[.;])\s+(?=[A-Z`*])")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the contract, or a rule that it declares in a schema."""

    at: str
    text: str
    cases: tuple[str, ...]
    """Ids of the cases that check it; empty when none does."""
    declared: bool = False


@dataclass
class Coverage:
    claimed: list[Sentence]
    """What some case checks, in the contract's order; declared rules after all sentences."""
    misquoted: list[Clause]
    """Clauses whose words do not stand where they say: the contract is another edition."""
    unclaimed: list[Sentence]
    """Normative sentences that no case checks; some of them bind clients or other planes."""
    operations: dict[str, list[str]]
    """Operations that no case sends a request to, and below each operation the status codes that
    no case expects."""
    errors: list[str]
    reasons: list[str]


def measure(collection: Collection, contract: Contract, extra: Iterable[Any] = ()) -> Coverage:
    """What the cases check of one plane's contract. ``extra`` are the property checks: they have
    ids, clauses and operations like cases."""
    clauses = {
        clause_id: clause
        for clause_id, clause in collection.clauses.items()
        if clause.plane == contract.plane
    }
    claims: dict[str, list[str]] = {}
    for check in [*collection.cases, *extra]:
        for clause_id in check.clauses:
            claims.setdefault(clause_id, []).append(check.id)
    places = dict(texts(contract))
    words = {at: plain(text) for at, text in places.items()}
    misquoted = [clause for clause in clauses.values() if not clause.stands_in(words)]
    statuses, errors, reasons = _reached(collection.cases, contract)
    for check in extra:
        for plane, operation_id in check.operations:
            if plane == contract.plane:
                statuses.setdefault(operation_id, set())
    operations = {}
    for operation_id, operation in contract.operations.items():
        if operation_id not in statuses:
            operations[operation_id] = ["no case sends a request to it"]
            continue
        missing = [s for s in operation.responses if s not in statuses[operation_id]]
        if missing:
            operations[operation_id] = missing
    sentences = list(_sentences(places, clauses, claims))
    return Coverage(
        claimed=[
            *(sentence for sentence in sentences if sentence.cases),
            *_declared(clauses, claims),
        ],
        misquoted=misquoted,
        unclaimed=[
            sentence
            for sentence in sentences
            if not sentence.cases and _NORMATIVE.search(sentence.text)
        ],
        operations=operations,
        errors=[code for code in contract.enum("ErrorCode") if code not in errors],
        reasons=[code for code in REASON_CODES.get(contract.plane, ()) if code not in reasons],
    )


def _sentences(
    places: Mapping[str, str], clauses: Mapping[str, Clause], claims: Mapping[str, list[str]]
) -> Iterator[Sentence]:
    """Every sentence of the contract, each once, with the cases that claim it."""
    # A section holds its subsections: the later, narrower place is the one to name.
    found = {
        plain(part): at
        for at, text in places.items()
        for block in _ITEM.split(HEADING.sub("\n\n", text))
        for part in _SENTENCE.split(block)
    }
    quotes = [
        (plain(clause.says), claims[clause_id])
        for clause_id, clause in clauses.items()
        if clause.says and clause_id in claims
    ]
    for sentence, at in found.items():
        by = [
            case
            for quote, cases in quotes
            if quote in sentence or (len(sentence) > 20 and sentence in quote)
            for case in cases
        ]
        yield Sentence(at, sentence, tuple(dict.fromkeys(by)))


def _declared(clauses: Mapping[str, Clause], claims: Mapping[str, list[str]]) -> Iterator[Sentence]:
    for clause_id, clause in clauses.items():
        if not clause.says and clause_id in claims:
            yield Sentence(clause.at, clause.declares, tuple(claims[clause_id]), declared=True)


def _reached(
    cases: Iterable[Case], contract: Contract
) -> tuple[dict[str, set[str]], set[str], set[str]]:
    """Statuses by operation, error codes and reason codes that some case expects."""
    statuses: dict[str, set[str]] = {}
    errors: set[str] = set()
    reasons: set[str] = set()
    for case in cases:
        for step in all_steps(case.steps):
            expectations = [step.get("expect", {"status": "2xx"})]
            if "readings" in step or "outcomes" in step:
                expectations = [*step.get("readings", ()), *step.get("outcomes", ())]
            names = [step.get("do") or step.get("pages")]
            if "parallel" in step:
                names = [request["do"] for request in step["parallel"]]
            if "ledger" in step:
                names = ["balances"]
            for name in filter(None, names):
                plane, operation_id = operation_of(name)
                operation = contract.operations.get(operation_id)
                if operation is None or plane != contract.plane:
                    continue
                found = statuses.setdefault(operation.operation_id, set())
                for expectation in expectations:
                    found |= _expected(expectation.get("status"), operation.responses)
            for expectation in expectations:
                errors |= set(_codes(expectation.get("error")))
                errors |= set(_members(expectation.get("body"), "error"))
                reasons |= set(_members(expectation.get("body"), "reason_code"))
    return statuses, errors, reasons


def _expected(status: Any, declared: Mapping[str, str]) -> set[str]:
    if status in (None, "2xx"):
        return {code for code in declared if code.startswith("2")}
    if status == "4xx":
        return set()
    return {str(code) for code in (status if isinstance(status, list) else [status])}


def _members(pattern: Any, member: str) -> Iterator[str]:
    if isinstance(pattern, dict):
        for name, value in pattern.items():
            if name == member:
                yield from _codes(value)
            else:
                yield from _members(value, member)
    elif isinstance(pattern, list):
        for element in pattern:
            yield from _members(element, member)


def _codes(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for element in value:
            yield from _codes(element)
    elif isinstance(value, dict):
        yield from _codes(value.get("$one_of", []))
