"""When a background job runs next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cycles_server.settings.cron import next_time

NEVER = "-"


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to wait, in seconds.

    Attributes:
        first_s: for the first run.
        next_s: for the next one, told whether the last one went well.
    """

    first_s: float
    next_s: Callable[[bool], float]


def every(interval_ms: int, after_failure_ms: int | None = None) -> Pause:
    """At once, then with a pause of the same length between two runs; another one after a
    failure, if given."""
    failure_ms = interval_ms if after_failure_ms is None else after_failure_ms
    return Pause(0, lambda went_well: (interval_ms if went_well else failure_ms) / 1000)


def at(cron: str) -> Pause | None:
    """The times of a cron expression in UTC: six fields, seconds first; None for ``-``, never.

    Raises:
        ValueError: not such an expression.
    """
    if cron == NEVER:
        return None

    def seconds(_: bool) -> float:
        now = datetime.now(UTC)
        return (next_time(cron, now) - now).total_seconds()

    return Pause(seconds(True), seconds)
