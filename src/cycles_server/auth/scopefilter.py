"""Scope filters: an API key may be limited to some segments of the scope tree.

Each entry names one segment, ``kind:id`` or ``kind:*``. Entries of one kind are alternatives;
every kind that a filter names must be met. An entry in any other form is met by nothing: left
out, it would widen what a misspelt filter admits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cycles_server.scopes import LEVELS, lower_case

_NEVER = ""
"""A kind that no segment has."""


@lru_cache(maxsize=10_000)
def _compiled(scope_filter: tuple[str, ...]) -> dict[str, frozenset[str]]:
    kinds: dict[str, set[str]] = {}
    for entry in scope_filter:
        kind, _, value = entry.partition(":")
        readable = kind in LEVELS and value
        kinds.setdefault(kind if readable else _NEVER, set()).add(lower_case(value))
    return {kind: frozenset(values) for kind, values in kinds.items()}


def admits(scope_filter: Sequence[str], scope: str) -> bool:
    """Whether a filter admits a canonical scope path; an empty filter admits everything."""
    if not scope_filter:
        return True
    kinds = _compiled(tuple(scope_filter))
    segments = dict(segment.partition(":")[::2] for segment in scope.split("/"))
    return all(
        kind in segments and ("*" in values or segments[kind] in values)
        for kind, values in kinds.items()
    )
