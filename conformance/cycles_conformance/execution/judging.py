"""Holds an answer to what its step expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.assertions.expectations import mismatches, summary
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.results import Problem


def judged(
    context: CaseContext,
    step: Mapping[str, Any],
    answer: Answer,
    label: str,
    reading: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """What is wrong with an answer; ``reading`` is which of the step's readings was seen."""
    if "readings" in step:
        if reading is not None:
            return []
        allowed = "; ".join(reading["saw"] for reading in step["readings"])
        found = [f"{summary(answer)} fits none of the answers that are allowed: {allowed}"]
    else:
        found = mismatches_of(context, step, step.get("expect", {"status": "2xx"}), answer)
    return [context.problem(message, label, answer) for message in found]


def reading_of(
    context: CaseContext, step: Mapping[str, Any], answer: Answer
) -> Mapping[str, Any] | None:
    """The first of the step's readings that the answer fits."""
    readings: list[Mapping[str, Any]] = step.get("readings", [])
    fitting = (one for one in readings if not mismatches_of(context, step, one, answer))
    return next(fitting, None)


def mismatches_of(
    context: CaseContext, step: Mapping[str, Any], expectation: Mapping[str, Any], answer: Answer
) -> list[str]:
    values = context.values_of(step)
    return mismatches(expectation, answer, values, context.named, context.schemas_of(step))
