"""Whether an answer is what a step expects of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cycles_conformance.assertions.matching import SchemaCheck, match, same, shown
from cycles_conformance.client import Answer
from cycles_conformance.values import MISSING, Values, without


def mismatches(
    expectation: Mapping[str, Any],
    answer: Answer,
    values: Values,
    named: Mapping[str, Answer],
    schemas: SchemaCheck,
) -> list[str]:
    """What keeps an answer from fitting an expectation, a reading or an outcome; empty if it fits.
    ``named`` are the earlier answers that ``same_as`` can name."""
    problems = []
    status = expectation.get("status")
    if status is not None and not _status_fits(status, answer.status):
        return [f"{summary(answer)}, expected status {status}"]
    if "error" in expectation:
        codes = expectation["error"]
        found = answer.body.get("error") if isinstance(answer.body, dict) else MISSING
        if found not in (codes if isinstance(codes, list) else [codes]):
            problems.append(f"error is {shown(found)}, expected {shown(codes)}")
    if "body" in expectation:
        pattern = values.resolve(expectation["body"])
        problems += [f"body {m}" for m in match(pattern, answer.body, schemas)]
    if "text" in expectation:
        pattern = values.resolve(expectation["text"])
        problems += [_of("the text", m) for m in match(pattern, answer.text, schemas)]
    for name, pattern in expectation.get("headers", {}).items():
        sent = answer.headers.get(name.lower(), MISSING)
        problems += [
            _of(f"header {name}", m) for m in match(values.resolve(pattern), sent, schemas)
        ]
    if "same_as" in expectation:
        problems += _differences(expectation["same_as"], answer, named)
    return problems


def statuses_of(step: Mapping[str, Any]) -> Iterator[int]:
    """The statuses that a step names."""
    for expectation in [step.get("expect", {}), *step.get("readings", ())]:
        status = expectation.get("status")
        if isinstance(status, int):
            yield status
        elif isinstance(status, list):
            yield from status


def summary(answer: Answer) -> str:
    """``status 409 BUDGET_EXCEEDED``"""
    code = answer.body.get("error") if isinstance(answer.body, dict) else None
    return f"status {answer.status}" + (f" {code}" if isinstance(code, str) else "")


def _differences(same_as: Any, answer: Answer, named: Mapping[str, Answer]) -> list[str]:
    step = same_as if isinstance(same_as, str) else same_as["step"]
    pointers = [] if isinstance(same_as, str) else same_as.get("except", [])
    first = named[step]
    if answer.status != first.status:
        return [f"{summary(answer)}, expected the same as {step}: {first.status}"]
    one, other = without(first.body, pointers), without(answer.body, pointers)
    if not same(one, other):
        return [f"the body differs from that of {step}: {shown(other)} is not {shown(one)}"]
    return []


def _status_fits(expected: Any, status: int) -> bool:
    if expected in ("2xx", "4xx"):
        return status // 100 == int(expected[0])
    return status in (expected if isinstance(expected, list) else [expected])


def _of(what: str, message: str) -> str:
    """A message of the matchers about something that has no places within."""
    return f"{what} {message.removeprefix('/ ')}"
