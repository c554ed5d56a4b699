"""How many cases run side by side: fewer once the server is slow."""

from __future__ import annotations

import threading
import time


class Jobs:
    """Permits to run a case, as a context manager that waits for one.

    ``limit`` is how many there are. It only ever falls, to one at the least: a server that was slow
    under so many cases would be slow under them again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running = 0
        self._lowered_at = float("-inf")
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.limit)
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def halve(self, began: float) -> bool:
        """Because of a request that began then (``time.monotonic()``) and was slow. Returns whether
        there are fewer now: not if there is one only, nor if the request began before they last
        became fewer, for it says nothing of how the server does since."""
        with self._changed:
            if self.limit == 1 or began < self._lowered_at:
                return False
            self.limit //= 2
            self._lowered_at = time.monotonic()
            return True
