"""A time limit that is moved far more often than it is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls ``reached`` once the time set last has come.

    Moving a deadline outward costs nothing: the timer that runs looks, when it fires, whether it
    has been moved.
    """

    __slots__ = ("_at", "_loop", "_reached", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, reached: Callable[[], None]) -> None:
        self._loop = loop
        self._reached = reached
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """From now on, in place of what was set before."""
        self._at = at = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._look)
        elif self._timer.when() > at:
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self._look)

    def clear(self) -> None:
        """There is none for now."""
        self._at = None

    def end(self) -> None:
        """There will be none any more."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._look)
        else:
            self._at = None
            self._reached()
