"""The clauses: each sentence of the contract that a case checks, once, by the place it stands at.

``cases/README.md`` describes the file, ``format/clauses.schema.json`` is its JSON Schema.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cycles_conformance.contract_text import plain, texts
from cycles_conformance.planes import SPEC_OPTIONS

if TYPE_CHECKING:
    from cycles_conformance.contract import Contract

FILE = "clauses.yaml"


@dataclass(frozen=True)
class Clause:
    """A sentence of the contract (``says``), or a rule that it declares (``declares``)."""

    clause_id: str
    plane: str
    at: str
    says: str
    declares: str

    def stands_in(self, words: Mapping[str, str]) -> bool:
        """Whether the contract has it there; ``words`` are its places with their plain texts."""
        return self.at in words and plain(self.says) in words[self.at]


def read(document: Mapping[str, Any]) -> Iterator[Clause]:
    """The clauses of a valid file, in its order; an id may come twice."""
    for plane, places in document.items():
        for at, clauses in places.items():
            for clause_id, clause in clauses.items():
                yield Clause(
                    clause_id, plane, at, clause.get("says", ""), clause.get("declares", "")
                )


def faults(
    clauses: list[Clause], contracts: Mapping[str, Contract], used: set[str]
) -> Iterator[str]:
    """What is wrong with the clauses, given the contracts by plane and the ids that cases refer to:
    an id that comes twice or
    that nothing uses, a place or a sentence that the contract does not have, and a sentence that
    stands there twice."""
    words = {
        plane: {at: plain(text) for at, text in texts(contract)}
        for plane, contract in contracts.items()
    }
    seen: set[str] = set()
    for clause in clauses:
        where = f"clause {clause.clause_id}"
        if clause.clause_id in seen:
            yield f"{where}: another clause has this id"
        seen.add(clause.clause_id)
        if clause.clause_id not in used:
            yield f"{where}: no case refers to it"
        if clause.plane not in words:
            yield f"{where}: {no_contract(clause.plane)}"
        elif clause.at not in words[clause.plane]:
            yield f"{where}: the contract has no place {clause.at!r}"
        elif not clause.stands_in(words[clause.plane]):
            yield f"{where}: {clause.at!r} does not say: {clause.says}"
    for one, other in itertools.combinations(clauses, 2):
        if (one.plane, one.at) == (other.plane, other.at) and _same(one, other):
            yield f"clause {other.clause_id}: says what clause {one.clause_id} says"


def no_contract(plane: str) -> str:
    return f"the {plane} plane has no contract ({SPEC_OPTIONS[plane]})"


def _same(one: Clause, other: Clause) -> bool:
    """Whether two clauses of one place are about the same words; one quote may hold the other."""
    if one.says and other.says:
        mine, theirs = plain(one.says), plain(other.says)
        return mine in theirs or theirs in mine
    return bool(one.declares) and one.declares == other.declares
