"""What a fuzzer must know of Cycles beyond the schema: rules that the contract states in prose.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``).
"""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

TENANT = os.environ["CYCLES_FUZZ_TENANT"]
LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
WINDOW_BOUNDS = ("from", "to", "expires_from", "expires_to", "finalized_from", "finalized_to")
_UNSAFE = re.compile(r"[^a-zA-Z0-9_.-]+")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Hold a request to what the prose says where the schema alone says otherwise."""
    for name in WINDOW_BOUNDS:
        # A blank bound is against `format: date-time`, and yet valid: it means unset.
        if case.query and case.query.get(name) == "":
            case.query[name] = "neither blank nor a time"
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _make_valid(case)


def _make_valid(case: Case) -> None:
    body = case.body
    if not isinstance(body, dict):
        return
    subject = body.get("subject")
    if isinstance(subject, dict):
        for level in LEVELS:
            if isinstance(subject.get(level), str):
                subject[level] = _UNSAFE.sub("-", subject[level]) or "x"
        # The caller's own tenant; without it the scopes would start below any budget.
        subject["tenant"] = TENANT
    for name in list(case.headers or ()):
        if name.lower() == "x-idempotency-key" and isinstance(body.get("idempotency_key"), str):
            del case.headers[name]
