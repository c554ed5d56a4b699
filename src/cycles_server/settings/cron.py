"""Cron expressions as operators of the reference write them: six fields, seconds first."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim


def next_time(cron: str, after: datetime) -> datetime:
    """Raises: ValueError if the expression is none, or has no next time."""
    try:
        # Spring writes `?` where either of the two day fields is left open.
        return next(CronSim(cron.replace("?", "*"), after))
    except Exception as error:  # CronSimError, and StopIteration for a 31st of February
        raise ValueError(f"not a cron expression: {cron}") from error


def check_cron(cron: str) -> None:
    """Raises: ValueError as :func:`next_time`."""
    next_time(cron, datetime.now(UTC))
