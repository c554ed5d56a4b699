"""Which cases and property checks the options name."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from cycles_conformance.cli.options import could_not_run
from cycles_conformance.results import LEVELS, Level


class Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def area(self) -> str: ...
    @property
    def level(self) -> Level: ...


Check = TypeVar("Check", bound=Named)


def chosen(checks: Iterable[Check], level: Level, only: Sequence[str]) -> list[Check]:
    """Those of the level, or a stricter one, whose area or id fits one of the patterns, in their
    order. Raises click.ClickException (exit code 2)."""
    checks = list(checks)
    for pattern in only:
        if not any(_fits(check, pattern) for check in checks):
            raise could_not_run(f"--only: no area and no case is called {pattern!r} (see --list)")
    wanted = LEVELS[: LEVELS.index(level) + 1]
    named = [
        check for check in checks if not only or any(_fits(check, pattern) for pattern in only)
    ]
    found = [check for check in named if check.level in wanted]
    if not found:
        levels = " and ".join(sorted({check.level for check in named}))
        raise could_not_run(f"--level {level} leaves no case: all that are chosen are {levels}")
    return found


def _fits(check: Named, pattern: str) -> bool:
    return fnmatch.fnmatchcase(check.area, pattern) or fnmatch.fnmatchcase(check.id, pattern)
