"""Makes the request of a step from its template, and sends it past a rate limit."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cycles_conformance.casefiles.templates import operation_of, plane_of, sender_of, template_of
from cycles_conformance.client import Answer, path_of
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.repeats import with_rows_once
from cycles_conformance.planes import OperationRef
from cycles_conformance.results import Exchange
from cycles_conformance.target import ADMIN_KEY, API_KEY, GATEWAY
from cycles_conformance.values import is_value, merge_patch

LONGEST_WAIT = 65
"""Seconds: a little over the window of a limit by the minute."""
PATIENCE = 2 * LONGEST_WAIT
"""Seconds that one request may be held up by a limit that other requests of the run use up."""


def send(
    context: CaseContext, step: Mapping[str, Any], label: str, expected: Collection[int]
) -> Answer | Exchange:
    """The answer, or the bare exchange when none came. Sent again while the server's rate limit
    refuses it, unless 429 is among the statuses that are expected. Each answer is held against the
    contract; what breaks it is noted for the run, and the body that is returned is what there is
    to judge by. Raises TargetLost."""
    patient = 429 not in expected
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = _send_once(context, step, label)
        if isinstance(answer, Answer) and "do" in step:
            answer = _checked(context, operation_of(step["do"]), answer, expected)
            answer = with_rows_once(step, answer)
        seconds = _asked_to_wait(answer)
        if seconds is None or not patient or time.monotonic() + seconds > deadline:
            return answer
        context.target.pause(seconds)


def _send_once(context: CaseContext, step: Mapping[str, Any], label: str) -> Answer | Exchange:
    template = template_of(step)
    values = context.values_of(step)
    if "do" in step:
        operation = context.target.operation(operation_of(step["do"]))
        method = operation.method
        members = values.resolve({**template.get("path", {}), **step.get("path", {})})
        path = path_of(operation.path, members)
    else:
        method, path = values.resolve(step["send"]).split(" ", 1)
    body: str | None = None
    told: Any = None
    if "raw" in step:
        body = values.resolve(step["raw"])
    elif "body_exact" in step:
        body = json.dumps(values.resolve(step["body_exact"]))
    elif "body" in template or "body" in step:
        merged = merge_patch(template.get("body", {}), step.get("body", {}))
        told = values.resolve(merged)
        body = json.dumps(told)
    headers = _credentials(context, sender_of(step))
    if body is not None:
        headers["Content-Type"] = "application/json"
    for name, value in values.resolve(dict(step.get("headers", {}))).items():
        for known in [known for known in headers if known.lower() == name.lower()]:
            del headers[known]
        if value is not None:
            headers[name] = str(value)
    query = values.resolve({**template.get("query", {}), **step.get("query", {})})
    client = context.target.planes[plane_of(step)].client
    context.patience.begin(step, told)
    answer = client.send(label, method, path, query=query, headers=headers, body=body)
    context.keep(answer.exchange if isinstance(answer, Answer) else answer)
    return answer


def _checked(
    context: CaseContext, ref: OperationRef, answer: Answer, expected: Collection[int]
) -> Answer:
    target = context.target
    if answer.status in GATEWAY:  # what it says, and how, is no word of the server's
        return answer
    found = target.planes[ref.plane].contract.check_answer(
        target.operation(ref), answer.status, answer.headers, answer.text, expected
    )
    target.breaches.hear(found.breaches, ref, context.case.id, answer.exchange)
    return replace(answer, body=found.body)


def _credentials(context: CaseContext, who: str) -> dict[str, str]:
    if who == "nobody":
        return {}
    if who == "admin":
        return {ADMIN_KEY: context.target.admin_key or ""}
    if is_value(who):
        return {API_KEY: str(context.values(who).resolve(who))}
    return {API_KEY: context.prepared.secrets[who]}


def _asked_to_wait(answer: Answer | Exchange) -> float | None:
    """Seconds to wait when a rate limit refuses a request, which it may do to anyone."""
    if not isinstance(answer, Answer) or answer.status != 429:
        return None
    told = answer.headers.get("retry-after", "")
    return float(told) + 0.1 if told.isdecimal() and int(told) <= LONGEST_WAIT else None
