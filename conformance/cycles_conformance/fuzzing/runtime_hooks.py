"""What a fuzzer of the runtime plane must know beyond the schemas: rules that the contract states
in prose.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``); ``runtime.py`` beside it sets the environment.
"""

from __future__ import annotations

import os
from typing import Any

from schemathesis import Case

from cycles_conformance.casefiles.given import SCOPE_LEVELS
from cycles_conformance.fuzzing import steering
from cycles_conformance.fuzzing.steering import chance, happens

TENANT = os.environ["CYCLES_FUZZ_TENANT"]
RESERVATIONS = os.environ["CYCLES_FUZZ_RESERVATIONS"].split()
_LONGEST_KEY = 256


def _steer(case: Case[Any], sent: steering.Sent) -> None:
    steering.spoil_blank_bounds(case)
    if steering.is_valid(case):
        _use_existing_id(case)
        _use_own_tenant(case)
        _make_valid(case)


steering.register(_steer)


def _use_existing_id(case: Case[Any]) -> None:
    """A made-up id is always unknown."""
    parameters = case.path_parameters
    if not parameters or "reservation_id" not in parameters or not RESERVATIONS:
        return
    if not steering.is_linked(case) and happens(0.7):
        parameters["reservation_id"] = chance.choice(RESERVATIONS)


def _use_own_tenant(case: Case[Any]) -> None:
    """Another tenant's name is refused, and balances need one filter at least."""
    query = case.query
    if query and "tenant" in query:
        query["tenant"] = TENANT
    elif case.operation.path == "/v1/balances" and not set(query or ()) & set(SCOPE_LEVELS):
        case.query = {**(query or {}), "tenant": TENANT}


def _make_valid(case: Case[Any]) -> None:
    body = case.body
    if not isinstance(body, dict):
        return
    subject = body.get("subject")
    if isinstance(subject, dict):
        for level in SCOPE_LEVELS:
            value = subject.get(level)
            if isinstance(value, str):
                subject[level] = steering.scope_value(value)
        # The caller's own tenant; without it the scopes would start below any budget.
        subject["tenant"] = TENANT
    for member in ("estimate", "actual"):
        steering.make_modest(body.get(member))
    if isinstance(body.get("idempotency_key"), str):
        steering.make_key_unique(body, _LONGEST_KEY)
        for name in list(case.headers or ()):
            if name.lower() == "x-idempotency-key":
                del case.headers[name]
