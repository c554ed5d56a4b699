"""What a run found: plain data that every report is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Level = Literal["MUST", "SHOULD", "MAY"]
LEVELS: tuple[Level, ...] = ("MUST", "SHOULD", "MAY")

Verdict = Literal["passed", "failed", "not run", "kit failed"]
"""``kit failed``: the kit made a mistake, and found nothing against the server before it."""


@dataclass(frozen=True)
class Exchange:
    """One request as it was sent and the answer as it came; header names as on the wire."""

    step: str
    method: str
    url: str
    request_headers: dict[str, str]
    request_body: str | None
    status: int | None
    """None when no answer came; ``failure`` then says why."""
    response_headers: dict[str, str]
    response_body: str
    """As text, whatever came; a very long one is cut."""
    milliseconds: float
    failure: str | None = None


@dataclass(frozen=True)
class Problem:
    """One thing that was wrong."""

    level: Level
    message: str
    """What was expected and what came, with the place (``body /reserved/amount``)."""
    step: str
    exchange: Exchange | None = None


@dataclass(frozen=True)
class Reading:
    """Which of several answers that the contract allows this server gives."""

    step: str
    saw: str


@dataclass(frozen=True)
class KitFailure:
    """A mistake of the kit or of a case file, which says nothing of the server."""

    step: str
    error: str
    """Type and message of the exception, in one line."""
    traceback: str


@dataclass
class CaseResult:
    case: str
    area: str
    level: Level
    why: str
    clauses: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    """Why the case was not run; empty otherwise."""
    setup_failed: bool = False
    """It was not run because its tenants or budgets could not be made although they should."""
    kit_failure: KitFailure | None = None
    problems: list[Problem] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    """The last exchanges of the case, oldest first; at most 50 are kept."""
    seconds: float = 0.0
    seed: int | None = None
    """For property checks: what their random choices begin with."""
    replay: str = ""
    """For property checks: the command line that runs this one again with the same choices."""

    @property
    def tried(self) -> bool:
        """Whether it says anything of the server."""
        return self.verdict in ("passed", "failed")


@dataclass(frozen=True)
class PlaneResult:
    """Where a plane was, and what its answers were held against."""

    target: str
    contract: str
    """Title and version of the contract, e.g. ``Cycles runtime API 0.1.25.16``."""
    contract_sha256: str


@dataclass
class RunResult:
    """A whole run. ``results`` are in the order of the case files; ``target`` and ``contract`` are
    the runtime plane's."""

    target: str
    contract: str
    contract_sha256: str
    kit_version: str
    level: Level
    seed: int
    provisioning: str
    """How tenants and budgets were made, e.g. ``redis``."""
    started_at: str
    """RFC 3339, UTC."""
    seconds: float
    results: list[CaseResult] = field(default_factory=list)
    not_offered: dict[str, str] = field(default_factory=dict)
    """Optional operations that the server does not offer, and what it answered; an operation of
    another plane than the runtime is named ``plane.operationId``."""
    planes: dict[str, PlaneResult] = field(default_factory=dict)
    """Each plane by name, the runtime too; empty for a run over the runtime alone."""
    incomplete: str = ""
    """Why the run ended before its end; empty when it did not. What was not reached is not run."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know of how the run went, in a line each."""

    def at(self, level: Level) -> list[CaseResult]:
        return [result for result in self.results if result.level == level]

    def problems_at(self, level: Level) -> int:
        """How many cases show a problem of this level."""
        return sum(
            any(problem.level == level for problem in result.problems) for result in self.results
        )

    @property
    def conformant(self) -> bool:
        """Nothing asked for at this level or a stricter one went wrong, something was tried, the
        run came to its end, and the kit did its part."""
        asked = LEVELS[: LEVELS.index(self.level) + 1]
        tried = any(result.tried for result in self.results)
        wrong = any(self.problems_at(level) for level in asked)
        return tried and not wrong and not self.kit_failures and not self.incomplete

    @property
    def kit_failures(self) -> list[tuple[CaseResult, KitFailure]]:
        return [
            (result, result.kit_failure)
            for result in self.results
            if result.kit_failure is not None
        ]
