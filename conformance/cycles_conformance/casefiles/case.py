"""A case as its file says it, and the whole collection of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cycles_conformance.casefiles.clauses import Clause
from cycles_conformance.planes import OperationRef
from cycles_conformance.provisioners import Given
from cycles_conformance.results import Level

KINDS: dict[str, frozenset[str]] = {
    "do": frozenset(
        {"as", "name", "path", "query", "headers", "body", "body_exact", "raw"}
        | {"expect", "readings", "save", "times", "until", "in_time"}
    ),
    "send": frozenset(
        {"as", "name", "plane", "query", "headers", "body_exact", "raw"}
        | {"expect", "readings", "save", "times", "until"}
    ),
    "parallel": frozenset({"outcomes", "same"}),
    "pages": frozenset({"as", "query", "headers", "most", "rows", "repeats", "save"}),
    "ledger": frozenset({"within", "in_time"}),
    "wait": frozenset(),
    "provision": frozenset(),
}
"""What a step can be, and the members that mean something beside it."""


@dataclass(frozen=True)
class Case:
    """``steps`` and ``vars`` are as in the file; ``cases/README.md`` describes them."""

    id: str
    area: str
    level: Level
    clauses: tuple[str, ...]
    why: str
    requires: tuple[str, ...]
    given: Given
    variables: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    operations: frozenset[OperationRef]
    """The operations that its steps send requests to."""
    planes: frozenset[str]
    """The planes that its steps send requests to."""


@dataclass(frozen=True)
class Collection:
    cases: tuple[Case, ...]
    clauses: Mapping[str, Clause]
    """By id."""


def all_steps(steps: Any) -> Iterator[Mapping[str, Any]]:
    """Every step, those of ``then`` and the requests of ``parallel`` included."""
    for step in steps:
        yield step
        yield from step.get("parallel", ())
        for reading in step.get("readings", ()):
            yield from all_steps(reading.get("then", ()))
