"""The clauses: each sentence of the contract that a case checks, once, by the place it stands at.

``cases/README.md`` describes the file, ``format/clauses.schema.json`` is its JSON Schema.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cycles_conformance.assertions.matching import same, shown
from cycles_conformance.contract_text import declared, plain, texts
from cycles_conformance.planes import SPEC_OPTIONS
from cycles_conformance.values import MISSING

if TYPE_CHECKING:
    from cycles_conformance.contract import Contract


@dataclass(frozen=True)
class Clause:
    """A sentence of the contract (``says``), or a rule that it declares (``declares``).

    Attributes:
        shape: what is declared: values by JSON pointers from the place (see ``declared``).
    """

    clause_id: str
    plane: str
    at: str
    says: str
    declares: str
    shape: Mapping[str, Any]

    @property
    def binds(self) -> bool:
        """Whether it is there for everybody to see, so that a MUST can rest on it."""
        return bool(self.says or self.shape)

    def stands_in(self, words: Mapping[str, str]) -> bool:
        """Whether the contract has it there; ``words`` are its places with their plain texts."""
        return self.at in words and plain(self.says) in words[self.at]


def read(document: Mapping[str, Any]) -> Iterator[Clause]:
    """The clauses of a valid file, in its order; an id may come twice."""
    for plane, places in document.items():
        for at, clauses in places.items():
            for clause_id, clause in clauses.items():
                yield Clause(
                    clause_id,
                    plane,
                    at,
                    clause.get("says", ""),
                    clause.get("declares", ""),
                    clause.get("shape", {}),
                )


def faults(
    files: Mapping[str, list[Clause]], contracts: Mapping[str, Contract], used: set[str]
) -> Iterator[str]:
    """What is wrong with the clauses by file, given the contracts by plane and the ids that cases
    refer to: an id that comes twice or that nothing uses, a place, a sentence or a shape that the
    contract does not have, and a sentence that stands there twice."""
    words = {
        plane: {at: plain(text) for at, text in texts(contract)}
        for plane, contract in contracts.items()
    }
    placed = [(file, clause) for file, clauses in files.items() for clause in clauses]
    seen: set[str] = set()
    for file, clause in placed:
        where = f"{file}: clause {clause.clause_id}"
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
        else:
            contract = contracts[clause.plane]
            yield from (f"{where}: {fault}" for fault in misdeclared(contract, clause))
    for (_, one), (file, other) in itertools.combinations(placed, 2):
        if (one.plane, one.at) == (other.plane, other.at) and _same(one, other):
            yield f"{file}: clause {other.clause_id}: says what clause {one.clause_id} says"


def misdeclared(contract: Contract, clause: Clause) -> Iterator[str]:
    """Where the contract's declarations are not as the clause has them."""
    for pointer, wanted in clause.shape.items():
        found = declared(contract, clause.at, pointer)
        if not _as_wanted(found, wanted):
            yield f"{clause.at!r} has {shown(found)} at {pointer}, not {shown(wanted)}"


def _as_wanted(found: Any, wanted: Any) -> bool:
    """``null`` stands for nothing; a list of names for the members of an object, or for the
    elements of a list in any order."""
    if wanted is None or found is MISSING:
        return wanted is None and found is MISSING
    if isinstance(wanted, list) and isinstance(found, list | dict):
        return len(found) == len(wanted) and all(one in found for one in wanted)
    return same(found, wanted)


def no_contract(plane: str) -> str:
    return f"the {plane} plane has no contract ({SPEC_OPTIONS[plane]})"


def _same(one: Clause, other: Clause) -> bool:
    """Whether two clauses of one place are about the same words; one quote may hold the other."""
    if one.says and other.says:
        mine, theirs = plain(one.says), plain(other.says)
        return mine in theirs or theirs in mine
    return bool(one.declares) and one.declares == other.declares
