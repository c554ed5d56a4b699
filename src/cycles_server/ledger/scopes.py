"""Scope derivation: from a Subject to canonical scopes (contract: Scope derivation)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from cycles_server.paging.queries import given
from cycles_server.refusal import invalid

LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
"""The levels of a subject, from the top of the hierarchy down."""
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
"""The contract's units, in its order."""

_VALUE = re.compile(r"[a-zA-Z0-9_.-]+")


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
        segment = f"{level}:{value.lower()}"
        path = f"{path}/{segment}" if path else segment
        scopes.append(path)
    return Scopes(scopes)


def derive_scopes(subject: Mapping[str, Any]) -> Scopes:
    """The scopes of a validated subject. Only the levels that it names appear.

    Raises:
        Refusal: 400 for a value outside the characters that a scope can hold.
    """
    return _derive(tuple((level, subject[level]) for level in LEVELS if level in subject))


def asked_segments(query: Mapping[str, Any], levels: Sequence[str] = LEVELS) -> frozenset[str]:
    """The scope segments that a list's subject filters ask for, such as ``agent:bot``."""
    return frozenset(
        f"{level}:{value.lower()}" for level in levels if (value := given(query, level))
    )


def leaf(scope: str) -> str:
    """A scope's own segment: ``agent:bot`` of ``tenant:acme/agent:bot``."""
    return scope.rpartition("/")[2]
