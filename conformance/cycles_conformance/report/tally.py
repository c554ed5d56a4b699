"""What a run adds up to: the counts and groups that every report shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cycles_conformance.report.text import cases
from cycles_conformance.results import LEVELS, CaseResult, KitFailure, Level, Problem, RunResult

State = Literal["conformant", "clean", "failed", "not run"]


@dataclass(frozen=True)
class Tally:
    """How many cases ended how."""

    passed: int = 0
    failed: int = 0
    not_run: int = 0
    kit_failed: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.not_run + self.kit_failed


@dataclass(frozen=True)
class LevelVerdict:
    """How the server did at one level."""

    level: Level
    state: State
    """``clean``: nothing went wrong at this level, but something did at a stricter one, or the run
    is incomplete."""
    failed: int
    """Cases that show a problem of this level, whatever level they are themselves."""
    tried: int
    """Cases that were run and are of this level, or show a problem of it."""
    not_run: int


def tally(results: Iterable[CaseResult]) -> Tally:
    verdicts = [result.verdict for result in results]
    return Tally(
        passed=verdicts.count("passed"),
        failed=verdicts.count("failed"),
        not_run=verdicts.count("not run"),
        kit_failed=verdicts.count("kit failed"),
    )


def setup_failed(run: RunResult) -> int:
    """How many cases could not be tried although the target said that they could."""
    return sum(result.setup_failed for result in run.results)


def by_area(run: RunResult) -> dict[str, list[CaseResult]]:
    """The cases of each area, areas in the order in which the run has them."""
    areas: dict[str, list[CaseResult]] = {}
    for result in run.results:
        areas.setdefault(result.area, []).append(result)
    return areas


def by_area_and_level(run: RunResult) -> dict[str, dict[Level, Tally]]:
    """For each area a tally of each level that has cases anywhere in the run."""
    levels = [level for level in LEVELS if run.at(level)]
    return {
        area: {level: tally(case for case in of if case.level == level) for level in levels}
        for area, of in by_area(run).items()
    }


def verdicts(run: RunResult) -> list[LevelVerdict]:
    """The verdict for each level, the strictest first."""
    found = []
    # Of a run that was broken off, nobody knows what the rest would have shown.
    stricter_failed = bool(run.incomplete)
    for level in LEVELS:
        failed = run.problems_at(level)
        tried = sum(
            any(problem.level == level for problem in result.problems)
            or (result.level == level and result.tried)
            for result in run.results
        )
        state: State = "conformant"
        if failed:
            state = "failed"
        elif not tried:
            state = "not run"
        elif stricter_failed:
            state = "clean"
        stricter_failed |= failed > 0
        found.append(LevelVerdict(level, state, failed, tried, tally(run.at(level)).not_run))
    return found


def verdict_line(run: RunResult) -> str:
    """``CONFORMANT at SHOULD: 412 cases passed, 3 not run`` or what stands against it, or
    ``INCOMPLETE: interrupted: 40 cases passed, 375 not run``."""
    counts = tally(run.results)
    not_run = f", {counts.not_run:,} not run" if counts.not_run else ""
    if unprepared := setup_failed(run):
        not_run += f" ({unprepared:,} could not be set up)"
    broken = len(run.kit_failures)
    kit = f"the kit failed in {cases(broken)}" if broken else ""
    if run.incomplete:
        against = f", {counts.failed:,} failed" if counts.failed else ""
        return (
            f"INCOMPLETE: {run.incomplete}: {cases(counts.passed)} passed{against}{not_run}"
            f"{kit and '; ' + kit}"
        )
    if broken and not counts.failed:
        passed = f", {counts.passed:,} passed" if counts.passed else ""
        return f"NO VERDICT: {kit}{passed}{not_run}"
    if not counts.passed + counts.failed:
        return f"NO VERDICT: no case was run{not_run}"
    failed = [verdict for verdict in verdicts(run) if verdict.failed]
    if run.conformant:
        beyond = "".join(f", {one.failed:,} failed at {one.level}" for one in failed)
        return f"CONFORMANT at {run.level}: {cases(counts.passed)} passed{beyond}{not_run}"
    worst = failed[0]
    more = "".join(f", {one.failed:,} of {one.tried:,} at {one.level}" for one in failed[1:])
    return (
        f"NOT CONFORMANT at {worst.level}: "
        f"{worst.failed:,} of {cases(worst.tried)} failed{more}{not_run}{kit and '; ' + kit}"
    )


def kit_failures(run: RunResult) -> list[tuple[str, KitFailure]]:
    """A line for each mistake of the kit (``the kit failed: case step: exception``), and what is
    known of it."""
    return [
        (f"the kit failed: {case.case} {failure.step}: {failure.error}", failure)
        for case, failure in run.kit_failures
    ]


def problems(case: CaseResult) -> list[Problem]:
    """The problems of a case, the gravest first."""
    return sorted(case.problems, key=lambda problem: LEVELS.index(problem.level))


def gravest(case: CaseResult) -> Level:
    """The strictest level that the case shows a problem of."""
    found = problems(case)
    return found[0].level if found else case.level


def failures(run: RunResult) -> list[CaseResult]:
    """The cases with something to say against the server, the gravest first."""
    against = [case for case in run.results if case.problems or case.verdict == "failed"]
    return sorted(against, key=lambda case: LEVELS.index(gravest(case)))


def readings(run: RunResult) -> dict[str, list[str]]:
    """Which readings of the contract the server follows, and the cases that saw it."""
    seen: dict[str, list[str]] = {}
    for case in run.results:
        for reading in case.readings:
            saw = seen.setdefault(reading.saw, [])
            if case.case not in saw:
                saw.append(case.case)
    return seen


def not_run(run: RunResult) -> dict[str, list[str]]:
    """The cases that were not run by reason, the most frequent reason first."""
    reasons: dict[str, list[str]] = {}
    for case in run.results:
        if case.verdict == "not run":
            reasons.setdefault(case.reason or "no reason given", []).append(case.case)
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))
