"""Scope derivation: from a Subject to canonical scopes (contract: Scope derivation)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from cycles_server.refusal import invalid

LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
"""The levels of a subject, from the top of the hierarchy down."""
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
"""The contract's units, in its order."""

LONGEST_VALUE = 128
"""How many characters a level's value may have."""

_VALUE = re.compile(r"[a-zA-Z0-9_.-]+")


def lower_case(text: str) -> str:
    """Letters of a scope in lower case; any other text as it is.

    Only a-z can be in a scope, and Unicode has signs that turn into those (the Kelvin sign).
    """
    return text.lower() if text.isascii() else text


class Scopes:
    """A subject's scopes.

    Attributes:
        all: every derived scope, from the top down, e.g.
            ``["tenant:acme", "tenant:acme/agent:bot"]``.
        path: the deepest one, the scope path.
        json: ``all`` as a JSON array.
    """

    __slots__ = ("all", "json", "path")

    def __init__(self, scopes: list[str]) -> None:
        self.all = scopes
        self.path = scopes[-1]
        self.json = orjson.dumps(scopes)


@lru_cache(maxsize=10_000)
def _derive(levels: tuple[tuple[str, str], ...]) -> Scopes:
    scopes: list[str] = []
    path = ""
    for level, value in levels:
        if _VALUE.fullmatch(value) is None:
            raise invalid(
                f"subject.{level}",
                "must be one or more of the letters a-z, A-Z, digits, '_', '.' and '-'",
            )
        segment = f"{level}:{lower_case(value)}"
        path = f"{path}/{segment}" if path else segment
        scopes.append(path)
    return Scopes(scopes)


def derive_scopes(subject: Mapping[str, Any]) -> Scopes:
    """The scopes of a validated subject. Only the levels that it names appear.

    Raises:
        Refusal: 400 for a value outside the characters that a scope can hold.
    """
    return _derive(tuple((level, subject[level]) for level in LEVELS if level in subject))


def read_scope(scope: str) -> dict[str, str]:
    """The levels that a canonical scope path names, with their values.

    Raises:
        Refusal: 400 for one that no subject has, with the canonical form where there is one.
    """
    where = f"scope {scope!r}"
    subject: dict[str, str] = {}
    for segment in scope.split("/"):
        level, colon, value = segment.partition(":")
        if not colon or level.lower() not in LEVELS:
            why = f"{segment!r} must be LEVEL:VALUE, LEVEL one of {', '.join(LEVELS)}"
            raise invalid(where, why)
        if level.lower() in subject:
            raise invalid("", f"{where} names {level} twice")
        if len(value) > LONGEST_VALUE:
            raise invalid(where, f"{level} is over {LONGEST_VALUE} characters")
        subject[level.lower()] = value
    if not all(map(_VALUE.fullmatch, subject.values())):
        why = "a value is one or more of the letters a-z, digits, '_', '.', '-'"
        raise invalid(where, why)
    canonical = derive_scopes(subject).path
    if scope != canonical:
        raise invalid("", f"{where} is not canonical, write {canonical!r}")
    return subject


def canonical_scope(scope: str) -> str:
    """The canonical form of a scope path whose values may be in any case.

    Raises:
        Refusal: 400 for one that no subject has.
    """
    segments = [segment.partition(":") for segment in scope.split("/")]
    lowered = "/".join(f"{level}{colon}{lower_case(value)}" for level, colon, value in segments)
    read_scope(lowered)
    return lowered


def tenant_in(scope: str) -> str:
    """The tenant that a scope names, in lower case; empty for one that does not begin there."""
    level, _, value = scope.partition("/")[0].partition(":")
    return value if level == "tenant" else ""


def counts_for(tenant: str, owner: str, scope: str) -> bool:
    """Whether a budget counts for a tenant, as lua/lib/budgets.lua has it for the scopes of a call.

    It counts for the tenant that its record names; a record without one counts below the scope
    of its tenant alone.

    Args:
        owner: the record's tenant, empty where it names none.
    """
    if owner:
        return owner == tenant
    return tenant != "" and tenant_in(scope) == lower_case(tenant)


def leaf(scope: str) -> str:
    """A scope's own segment: ``agent:bot`` of ``tenant:acme/agent:bot``."""
    return scope.rpartition("/")[2]
