"""Keeps values of an answer for later steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cycles_conformance.assertions.expectations import summary
from cycles_conformance.casefiles.templates import template_of
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext, CaseUnjudged
from cycles_conformance.values import MISSING, at_pointer


def save(context: CaseContext, step: Mapping[str, Any], answer: Answer, label: str) -> None:
    """What the step's template saves, where it is there, and what the step itself does. Raises as
    ``save_named``."""
    template = template_of(step)
    for name, source in template.get("save", {}).items():
        try:
            context.known[name] = at_pointer(answer.body, source)
            context.lacking.pop(name, None)
        except KeyError:
            # A refusal has none to give: a case that goes on regardless is at fault itself.
            if 200 <= answer.status < 300:
                what = f"{summary(answer)} has no {source}, which a later step needs"
                context.lacking[name] = what
    save_named(context, step, answer, label, template.get("may_lack", ()))


def save_named(
    context: CaseContext,
    step: Mapping[str, Any],
    answer: Answer,
    label: str,
    may_lack: Collection[str] = (),
) -> None:
    """What ``save`` of a step or reading names. Raises CaseEnded when the answer lacks it, and
    CaseUnjudged when the contract lets it."""
    for name, source in step.get("save", {}).items():
        if source.startswith("header "):
            value = answer.headers.get(source.removeprefix("header ").lower(), MISSING)
        else:
            try:
                value = at_pointer(answer.body, source)
            except KeyError:
                value = MISSING
        if value is MISSING and source in may_lack:
            raise CaseUnjudged(f"the server does not tell {source}, which is optional there")
        if value is MISSING:
            message = f"{summary(answer)} has no {source}, which a later step needs"
            context.fail([context.problem(message, label, answer)])
        context.known[name] = value
