"""Holds an answer to what its step expects and to the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.assertions.expectations import mismatches, statuses_of, summary
from cycles_conformance.casefiles.templates import operation_of
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
    problems: list[Problem] = []
    if "readings" in step:
        if reading is None:
            allowed = "; ".join(reading["saw"] for reading in step["readings"])
            message = f"{summary(answer)} fits none of the answers that are allowed: {allowed}"
            problems.append(context.problem(message, label, answer))
    else:
        expectation = step.get("expect", {"status": "2xx"})
        problems += [
            context.problem(message, label, answer)
            for message in mismatches_of(context, step, expectation, answer)
        ]
    return problems + breaches(context, step, answer, label)


def breaches(
    context: CaseContext, step: Mapping[str, Any], answer: Answer, label: str
) -> list[Problem]:
    """What the contract itself forbids in an answer."""
    if "do" not in step:
        return []
    ref = operation_of(step["do"])
    operation = context.target.operation(ref)
    found = context.target.planes[ref.plane].contract.check_answer(
        operation, answer.status, answer.headers, answer.text, statuses_of(step)
    )
    return [Problem("MUST", f"contract: {text}", label, answer.exchange) for text in found]


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
