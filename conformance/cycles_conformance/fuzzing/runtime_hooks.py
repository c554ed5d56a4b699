"""What a fuzzer must know of Cycles beyond the schemas: rules that the contract states in prose.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``); ``command.py`` beside it sets the environment.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from cycles_conformance.casefiles.given import SCOPE_LEVELS
from cycles_conformance.failures import described

TENANT = os.environ["CYCLES_FUZZ_TENANT"]
RESERVATIONS = os.environ["CYCLES_FUZZ_RESERVATIONS"].split()
MISTAKES = os.environ["CYCLES_FUZZ_MISTAKES"]
WINDOW_BOUNDS = ("from", "to", "expires_from", "expires_to", "finalized_from", "finalized_to")
MODEST = 1_000_000

_UNSAFE = re.compile(r"[^a-zA-Z0-9_.-]+")
_chance = random.Random(os.environ["CYCLES_FUZZ_SEED"])  # noqa: S311
_numbers = itertools.count(1)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Hold a request to what the prose says where the schema alone says otherwise, and steer part
    of the valid ones past the first refusal, into the ledger."""
    try:
        _steer(case)
    except Exception as error:
        # Schemathesis would count it among the server's failures; its output has the traceback.
        with open(MISTAKES, "a", encoding="utf-8") as file:
            file.write(described(error) + "\n")
        raise


def _steer(case: Case[Any]) -> None:
    for name in WINDOW_BOUNDS:
        # A blank bound is against `format: date-time`, and yet valid: it means unset.
        if case.query and case.query.get(name) == "":
            case.query[name] = "neither blank nor a time"
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _use_existing_id(case)
        _use_own_tenant(case)
        _make_valid(case)


def _use_existing_id(case: Case[Any]) -> None:
    """A made-up id is always unknown. Ids that a link brought are left alone."""
    parameters = case.path_parameters
    if not parameters or "reservation_id" not in parameters or not RESERVATIONS:
        return
    assert case.meta is not None
    if case.meta.phase.name.value != "stateful" and _chance.random() < 0.7:
        parameters["reservation_id"] = _chance.choice(RESERVATIONS)


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
                subject[level] = _UNSAFE.sub("-", value) or "x"
        # The caller's own tenant; without it the scopes would start below any budget.
        subject["tenant"] = TENANT
    for member in ("estimate", "actual"):
        amount = body.get(member)
        # Most of int64 is more than any budget holds.
        if isinstance(amount, dict) and _chance.random() < 0.7:
            value = amount.get("amount")
            if isinstance(value, int):
                amount["amount"] = value % MODEST
    if isinstance(body.get("idempotency_key"), str):
        # Shrunk examples repeat their keys, and a key that was used with another body is refused.
        if _chance.random() < 0.9:
            body["idempotency_key"] = f"{next(_numbers)}-{body['idempotency_key']}"[:256]
        for name in list(case.headers or ()):
            if name.lower() == "x-idempotency-key":
                del case.headers[name]
