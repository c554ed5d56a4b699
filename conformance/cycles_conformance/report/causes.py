"""Failures by what seems to be behind them: the same thing, said by several cases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.report import tally
from cycles_conformance.results import LEVELS, CaseResult, Level, RunResult

_STEP = re.compile(r"step [0-9.]+ \((.*?)\)")
# What differs between cases that fail alike: paths of scopes, texts, ids, numbers. A status stays.
_PATH = re.compile(r"\btenant:\S+")
_VALUE = re.compile(
    r'"(?:[^"\\]|\\.)*"?|\'[^\']*\'|\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b|\bck-[\w-]+'
    r"|(?<![\w.])-?[0-9]+(?:\.[0-9]+)?\b"
)
_NESTED = re.compile(r"\{[^{}]*\}|\[[^][]*\]")
_STATUS = re.compile(r"status (?:[0-9]{3}|\[[0-9, ]*\]|[24]xx)(?: [A-Z_]+)?")


@dataclass(frozen=True)
class Cause:
    """What several cases have to say against the server.

    Attributes:
        what: the operation of the step, and what was wrong, without the values.
        cases: the cases whose gravest problem it is, in the order of the run.
    """

    level: Level
    what: str
    cases: list[str]


def causes(run: RunResult) -> list[Cause]:
    """Every failed case under one cause, by the first of its gravest problems; the stricter level
    first, then the cause of more cases."""
    found: dict[tuple[Level, str], list[str]] = {}
    for case in tally.failures(run):
        found.setdefault((tally.gravest(case), cause_of(case)), []).append(case.case)
    listed = [Cause(level, what, cases) for (level, what), cases in found.items()]
    return sorted(
        listed, key=lambda cause: (LEVELS.index(cause.level), -len(cause.cases), cause.what)
    )


def cause_of(case: CaseResult) -> str:
    """``commit: status 409 BUDGET_EXCEEDED, expected status 200``"""
    problems = tally.problems(case)
    if not problems:
        return "failed"
    if case.case == AS_DECLARED.id:
        kinds = "one kind" if len(problems) == 1 else f"{len(problems):,} kinds"
        return f"answers are not as the contract declares them: {kinds}"
    step = _STEP.search(problems[0].step)
    return (f"{step.group(1)}: " if step else "") + _without_values(problems[0].message)


def _without_values(message: str) -> str:
    kept = _STATUS.findall(message)
    text = _VALUE.sub("…", _PATH.sub("tenant:…", _STATUS.sub("\0", message)))
    before = ""
    while before != text:
        before, text = text, _NESTED.sub("…", text)
    for status in kept:
        text = text.replace("\0", status, 1)
    return text
