"""Answers that are not what the contract declares: a kind of them is said once, however many
answers show it, and no case ends on it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from cycles_conformance.planes import OperationRef
from cycles_conformance.provisioners import Given
from cycles_conformance.results import Exchange, Level, Problem


@dataclass(frozen=True)
class Breach:
    """One thing in one answer that breaks its declared shape.

    Attributes:
        kind: the same for every answer with this fault, whatever its values.
        message: with the values of this one.
    """

    kind: str
    message: str


class _AsDeclared:
    """The check that all answers of a run amount to: nothing is sent for it."""

    id = "answers-as-declared"
    area = "answers"
    level: Level = "MUST"
    clauses: tuple[str, ...] = ()
    why = (
        "Every answer, whatever its case asks about, has a status that its operation declares, and "
        "the headers and the body that the contract declares for it."
    )
    requires: tuple[str, ...] = ()
    given = Given((), (), ())
    operations: frozenset[OperationRef] = frozenset()
    planes: frozenset[str] = frozenset()


AS_DECLARED = _AsDeclared()


@dataclass
class _Seen:
    first: Breach
    case: str
    exchange: Exchange
    answers: int = 0
    cases: set[str] = field(default_factory=set)
    operations: set[str] = field(default_factory=set)


class Breaches:
    """What the answers of a run broke. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard = 0
        self._seen: dict[str, _Seen] = {}

    def hear(
        self, found: Iterable[Breach], ref: OperationRef, case: str, exchange: Exchange
    ) -> None:
        """Note what was found in one answer, be it nothing."""
        with self._lock:
            self._heard += 1
            for breach in found:
                seen = self._seen.setdefault(breach.kind, _Seen(breach, case, exchange))
                seen.answers += 1
                seen.cases.add(case)
                seen.operations.add(ref.name)

    @property
    def any(self) -> bool:
        return bool(self._seen)

    @property
    def heard(self) -> bool:
        """Whether there was an answer to hold against the contract."""
        return self._heard > 0

    def problems(self) -> list[Problem]:
        """One for each kind, in a fixed order."""
        with self._lock:
            return [
                Problem("MUST", _told(seen), seen.exchange.step, seen.exchange)
                for _, seen in sorted(self._seen.items())
            ]


def _told(seen: _Seen) -> str:
    answers = "1 answer" if seen.answers == 1 else f"{seen.answers:,} answers"
    where = f" in {len(seen.cases):,} cases" if len(seen.cases) > 1 else ""
    return (
        f"contract: {seen.first.message}: {answers} of {', '.join(sorted(seen.operations))}"
        f"{where}, first in {seen.case}"
    )
