"""Scope patterns: which of a tenant's scopes a policy is for.

- ``tenant:acme/workspace:eng``: this scope alone;
- ``tenant:acme/*``: every scope below ``tenant:acme``, at any depth, and not that scope itself;
- ``tenant:acme/agent:*``: each agent right below ``tenant:acme``;
- ``agent:*``: each agent of the owner, wherever it stands;
- ``*/agent:bot``: this agent of the owner, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cycles_server.refusal import Refusal, invalid
from cycles_server.scopes import LEVELS, canonical_scope, lower_case, tenant_in

_WHERE = "scope_pattern"
_ANYWHERE = "*/"
_STAND_IN = "x"
"""A value that any level may have: with it in place of the ``*`` a pattern is a scope."""


class Pattern(NamedTuple):
    """A pattern that some scope can match.

    Attributes:
        text: its canonical form.
        precision: how exactly it says what it matches, the greater the more exactly: how many
            levels it names, then whether it leaves nothing open.
    """

    text: str
    precision: tuple[int, bool]

    def below(self, tenant_id: str) -> str:
        """It as a path below its owner, to be held against a key's scope filter."""
        if tenant_in(self.text):
            return self.text
        return f"tenant:{lower_case(tenant_id)}/{self.text.removeprefix(_ANYWHERE)}"


def matching(scopes: Sequence[str]) -> dict[str, str]:
    """The canonical texts of all patterns that match one of these scopes, each with the deepest
    scope that it matches.

    Args:
        scopes: a subject's, canonical, from the tenant's down.
    """
    found: dict[str, str] = {}
    above = ""
    for scope in scopes:
        found[scope] = scope
        if above:
            segment = scope[len(above) + 1 :]
            any_value = f"{segment.partition(':')[0]}:*"
            for text in (f"{above}/{any_value}", any_value, _ANYWHERE + any_value):
                found[text] = scope
            found[_ANYWHERE + segment] = scope
        above = scope
    for scope in scopes[:-1]:
        found[f"{scope}/*"] = scopes[-1]
    return found


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
        return Pattern(f"{scope}/*", (levels, False))
    if any_value:
        return Pattern(scope.removesuffix(_STAND_IN) + "*", (levels, False))
    return Pattern(scope, (levels, True))


def own_pattern(tenant_id: str, text: str) -> Pattern:
    """A pattern of a tenant's own scopes.

    Raises:
        Refusal: 400 for any other.
    """
    pattern = read_pattern(text)
    if tenant_in(pattern.text) not in ("", lower_case(tenant_id)):
        raise invalid(_WHERE, f"{text!r} is not below tenant:{tenant_id}")
    return pattern


def _anywhere(text: str, level: str, value: str) -> Pattern:
    if level not in LEVELS[1:]:
        raise invalid(_WHERE, f"{text!r}: {level!r} is none of {', '.join(LEVELS[1:])}")
    above = _ANYWHERE if text.startswith(_ANYWHERE) else ""
    if value == "*":
        return Pattern(f"{above}{level}:*", (1, False))
    return Pattern(above + _canonical(f"{level}:{value}"), (1, True))


def _canonical(path: str) -> str:
    try:
        return canonical_scope(path)
    except Refusal as problem:
        raise invalid(_WHERE, problem.message) from None
