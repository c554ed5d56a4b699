"""What the hooks of all planes share; loaded by Schemathesis together with them.

Hooks hold a request to what the prose of a contract says where its schemas alone say otherwise, and
steer part of the valid ones past the first refusal.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from cycles_conformance.failures import described

WINDOW_BOUNDS = ("from", "to", "expires_from", "expires_to", "finalized_from", "finalized_to")
MODEST = 1_000_000

_MISTAKES = os.environ["CYCLES_FUZZ_MISTAKES"]
_UNSAFE = re.compile(r"[^a-zA-Z0-9_.-]+")
_numbers = itertools.count(1)
chance = random.Random(os.environ["CYCLES_FUZZ_SEED"])  # noqa: S311

Sent = dict[str, Any]
"""What Schemathesis passes on to its HTTP client."""


def register(steer: Callable[[Case[Any], Sent], None]) -> None:
    """Have ``steer`` look at each request before it is sent, and change it."""

    @schemathesis.hook
    def before_call(context: HookContext, case: Case[Any], kwargs: Sent) -> None:
        try:
            steer(case, kwargs)
        except Exception as error:
            # Schemathesis would count it among the server's failures; its output has the traceback.
            with open(_MISTAKES, "a", encoding="utf-8") as file:
                file.write(described(error) + "\n")
            raise


def is_valid(case: Case[Any]) -> bool:
    """Whether the request is one that the schemas allow."""
    return case.meta is not None and case.meta.generation.mode.is_positive


def is_linked(case: Case[Any]) -> bool:
    """Whether it follows upon another, whose ids it may have: these are left alone."""
    return case.meta is not None and case.meta.phase.name.value == "stateful"


def happens(probability: float) -> bool:
    return chance.random() < probability


def spoil_blank_bounds(case: Case[Any]) -> None:
    """A blank bound of a window is against ``format: date-time``, and yet may mean unset."""
    for name in WINDOW_BOUNDS:
        if case.query and case.query.get(name) == "":
            case.query[name] = "neither blank nor a time"


def scope_value(text: str) -> str:
    """A text as the value of a level in a scope."""
    return _UNSAFE.sub("-", text)[:128] or "x"


def make_modest(amount: Any) -> None:
    """Most of int64 is more than any budget holds."""
    if isinstance(amount, dict) and happens(0.7):
        value = amount.get("amount")
        if isinstance(value, int):
            amount["amount"] = value % MODEST


def make_key_unique(body: dict[str, Any], longest: int) -> None:
    """Shrunk examples repeat their keys, and a key that was used with another body is refused."""
    key = body.get("idempotency_key")
    if isinstance(key, str) and happens(0.9):
        body["idempotency_key"] = f"{next(_numbers)}-{key}"[:longest]
