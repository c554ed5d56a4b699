"""When a background job runs next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim

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
    parse_cron(cron)

    def seconds(_: bool) -> float:
        now = datetime.now(UTC)
        return (next(CronSim(_plain(cron), now)) - now).total_seconds()

    return Pause(seconds(True), seconds)


def parse_cron(cron: str) -> None:
    """Raises: ValueError if an expression has no next time."""
    try:
        next(CronSim(_plain(cron), datetime.now(UTC)))
    except Exception as error:  # CronSimError, and StopIteration for a 31st of February
        raise ValueError(f"not a cron expression: {cron}") from error


def _plain(cron: str) -> str:
    # Spring writes `?` where either of the two day fields is left open.
    return cron.replace("?", "*")
