"""``parallel``: requests at the same time, and how many of each outcome came."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cycles_conformance.assertions.expectations import statuses_of, summary
from cycles_conformance.assertions.matching import match, same, shown
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.judging import mismatches_of
from cycles_conformance.execution.sending import send
from cycles_conformance.results import Exchange, Problem
from cycles_conformance.values import without

_SHOWN = 5


def run_parallel(context: CaseContext, step: Mapping[str, Any], label: str) -> None:
    """Raises CaseEnded."""
    requests = [one for one in step["parallel"] for _ in range(one.get("times", 1))]
    statuses = [*statuses_of({"readings": step["outcomes"]})]
    answers = _at_once(context, requests, statuses, label)
    problems: list[Problem] = []
    counts = [0] * len(step["outcomes"])
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, Exchange):
            problems.append(Problem("MUST", answer.failure or "no answer", label, answer))
            continue
        for i, outcome in enumerate(step["outcomes"]):
            if not mismatches_of(context, request, outcome, answer):
                counts[i] += 1
                break
        else:
            message = f"{summary(answer)} fits none of the outcomes that are allowed"
            problems.append(context.problem(message, label, answer))
    problems += _miscounted(context, step["outcomes"], counts, len(requests), label)
    if "same" in step:
        problems += _unequal(context, step["same"], answers, label)
    if problems:
        context.fail(problems[:_SHOWN])


def _at_once(
    context: CaseContext, requests: Sequence[Any], statuses: list[int], label: str
) -> list[Answer | Exchange]:
    ready = threading.Barrier(len(requests))

    def sent(request: Mapping[str, Any]) -> Answer | Exchange:
        ready.wait()
        return send(context, request, f"{label} {request['do']}", statuses)

    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(sent, requests))


def _miscounted(
    context: CaseContext, outcomes: Sequence[Any], counts: list[int], total: int, label: str
) -> Iterator[Problem]:
    for outcome, count in zip(outcomes, counts, strict=True):
        pattern = context.values("tenant").resolve(outcome["count"])
        if match(pattern, count, context.schemas_of({})):
            kind = {name: value for name, value in outcome.items() if name != "count"}
            message = f"{count} of {total} answers are {shown(kind)}, expected {shown(pattern)}"
            yield context.problem(message, label, None)


def _unequal(
    context: CaseContext, pointers: list[str], answers: list[Answer | Exchange], label: str
) -> Iterator[Problem]:
    good = [a for a in answers if isinstance(a, Answer) and 200 <= a.status < 300]
    for other in good[1:]:
        one, two = without(good[0].body, pointers), without(other.body, pointers)
        if not same(one, two):
            message = f"two answers differ: {shown(one)} and {shown(two)}"
            yield context.problem(message, label, other)
            return
