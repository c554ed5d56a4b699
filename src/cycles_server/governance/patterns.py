"""Scope patterns: which of a tenant's scopes a policy is for.

- ``tenant:acme/workspace:eng``: this scope alone;
- ``tenant:acme/*``: every scope below ``tenant:acme``, at any depth, and not that scope itself;
- ``tenant:acme/agent:*``: each agent right below ``tenant:acme``;
- ``agent:*``: each agent of the owner, wherever it stands;
- ``*/agent:bot``: this agent of the owner, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cycles_server.refusal import Refusal, invalid
from cycles_server.scopes import LEVELS, canonical_scope, tenant_in

_WHERE = "scope_pattern"
_ANYWHERE = "*/"
_STAND_IN = "x"
"""A value that any level may have: with it in place of the ``*`` a pattern is a scope."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that can be asked.

    Attributes:
        text: its canonical form.
        precision: how exactly it says what it matches, the greater the more exactly: how many
            levels it names, then whether it leaves nothing open.
    """

    text: str
    precision: tuple[int, bool]
    _form: re.Pattern[str]

    def matches(self, scopes: Sequence[str]) -> bool:
        """Whether it matches one of the scopes (canonical ones, each with its tenant)."""
        return any(self._form.fullmatch(scope) for scope in scopes)

    def below(self, tenant_id: str) -> str:
        """It as a path below its owner, to be held against a key's scope filter."""
        if tenant_in(self.text):
            return self.text
        return f"tenant:{tenant_id.lower()}/{self.text.removeprefix(_ANYWHERE)}"


def read_pattern(text: str) -> Pattern:
    """The pattern in a text whose values may be in any case.

    Raises:
        Refusal: 400 for one that no scope can match.
    """
    above, _, last = text.rpartition("/")
    level, _, value = last.partition(":")
    below_all = last == "*"
    if above == "*" or (not above and level in LEVELS[1:] and value == "*"):
        return _anywhere(text, level, value)
    path = above if below_all else text
    any_value = path.endswith(":*")
    if any_value:
        path = path[:-1] + _STAND_IN
    if "*" in path or path.startswith("/") or (any_value and (below_all or not above)):
        raise invalid(
            _WHERE,
            f"{text!r}: a '*' stands at the end of a tenant's path, as in tenant:ID/* or "
            "tenant:ID/agent:*, or finds a level anywhere, as in agent:* or */agent:NAME",
        )
    scope = _canonical(path)
    if not tenant_in(scope):
        raise invalid(_WHERE, f"{text!r} does not begin with tenant:ID")
    levels = scope.count("/") + 1
    if below_all:
        return Pattern(f"{scope}/*", (levels, False), re.compile(re.escape(scope) + "/.+"))
    if any_value:
        scope = scope.removesuffix(_STAND_IN)
        return Pattern(f"{scope}*", (levels, False), re.compile(re.escape(scope) + "[^/]+"))
    return Pattern(scope, (levels, True), re.compile(re.escape(scope)))


def own_pattern(tenant_id: str, text: str) -> Pattern:
    """A pattern of a tenant's own scopes.

    Raises:
        Refusal: 400 for any other.
    """
    pattern = read_pattern(text)
    if tenant_in(pattern.text) not in ("", tenant_id.lower()):
        raise invalid(_WHERE, f"{text!r} is not below tenant:{tenant_id}")
    return pattern


def _anywhere(text: str, level: str, value: str) -> Pattern:
    if level not in LEVELS[1:]:
        raise invalid(_WHERE, f"{text!r}: {level!r} is none of {', '.join(LEVELS[1:])}")
    above = _ANYWHERE if text.startswith(_ANYWHERE) else ""
    if value == "*":
        return Pattern(f"{above}{level}:*", (1, False), re.compile(f".+/{level}:[^/]+"))
    scope = _canonical(f"{level}:{value}")
    return Pattern(above + scope, (1, True), re.compile(".+/" + re.escape(scope)))


def _canonical(path: str) -> str:
    try:
        return canonical_scope(path)
    except Refusal as problem:
        raise invalid(_WHERE, problem.message) from None
