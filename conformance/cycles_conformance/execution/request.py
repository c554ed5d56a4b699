"""``do`` and ``send``: one request and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cycles_conformance.assertions.expectations import statuses_of
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.judging import judged, reading_of
from cycles_conformance.execution.saving import save, save_named
from cycles_conformance.execution.sending import send
from cycles_conformance.results import Exchange, Problem, Reading

POLL_SECONDS = 0.5


def ask(context: CaseContext, step: Mapping[str, Any], label: str) -> Answer:
    """Send one request, and hold the answer to ``step["expect"]``. May be called from several
    threads. Raises CaseEnded when there is no answer, or a wrong one."""
    with context.within(label):
        answer = _sent(context, step, label)
        if problems := judged(context, step, answer, label):
            context.fail(problems)
    return answer


def run_request(
    context: CaseContext,
    step: Mapping[str, Any],
    label: str,
    follow: Callable[[Any], None],
) -> None:
    """The step, ``times`` over, each time ``until`` the answer fits; ``follow`` carries out the
    steps of the reading that was seen. Raises CaseEnded, CaseUnjudged."""
    for _ in range(step.get("times", 1)):
        deadline = time.monotonic() + step.get("until", 0)
        while True:
            last = time.monotonic() >= deadline
            answer = _sent(context, step, label)
            context.patience.check(step)
            reading = reading_of(context, step, answer)
            problems = judged(context, step, answer, label, reading)
            if not problems or last:
                break
            time.sleep(POLL_SECONDS)
        if problems:
            context.fail(problems)
        if "name" in step:
            context.named[step["name"]] = answer
        save(context, step, answer, label)
        if reading is not None:
            context.result.readings.append(Reading(label, reading["saw"]))
            save_named(context, reading, answer, label)
            follow(reading.get("then", ()))


def _sent(context: CaseContext, step: Mapping[str, Any], label: str) -> Answer:
    answer = send(context, step, label, list(statuses_of(step)))
    if isinstance(answer, Exchange):
        context.fail([Problem("MUST", answer.failure or "no answer", label, answer)])
    return answer
