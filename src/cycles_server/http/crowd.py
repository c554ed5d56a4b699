"""The connections of one worker: how many there may be, and who makes room for whom."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

LIVENESS_PATH = "/actuator/health/liveness"
"""Never waits for room."""

_MOMENT_S = 1.0


class Guest(Protocol):
    """A connection, as the crowd sees it."""

    def make_room(self) -> None:
        """Close: it waits for its client, and for nothing else."""

    def room_made(self) -> None:
        """Go on with the request that had to wait."""


class Crowd:
    """Keeps the number of connections to ``most``.

    A connection waits for its client (to send, or to read), is being served, or holds a request
    that waits for its turn. Beyond the limit those that have waited longest for their clients are
    closed, so that no number of silent ones shuts anybody out; newcomers get a moment first to
    say what they want, as long as they are no more than ``newcomers``. While ``most`` are being
    served, further requests wait.
    """

    def __init__(self, most: int, newcomers: int) -> None:
        self._most = most
        self._newcomers = newcomers
        self._open = 0
        self._waiting: dict[Guest, float] = {}  # since when; the longest waiting first
        self._served: set[Guest] = set()
        self._held: deque[Guest] = deque()

    def join(self, guest: Guest) -> None:
        self._open += 1
        if self._open > self._most:
            # One more than has come, so that a crowd shrinks again.
            self._close_longest()
            self._close_longest()
        self._waiting[guest] = time.monotonic()

    def _close_longest(self) -> None:
        for guest, since in self._waiting.items():
            if self._open > self._most + self._newcomers or time.monotonic() - since > _MOMENT_S:
                del self._waiting[guest]
                guest.make_room()
            return

    def leave(self, guest: Guest) -> None:
        self._open -= 1
        self._waiting.pop(guest, None)
        self._served.discard(guest)
        if guest in self._held:
            self._held.remove(guest)
        self._admit()

    def has_room(self, path: str) -> bool:
        """Whether a request for this path may begin at once."""
        return len(self._served) < self._most or path == LIVENESS_PATH

    def serve(self, guest: Guest) -> None:
        """The guest's request is whole and has begun: now it waits for the server."""
        self._waiting.pop(guest, None)
        self._served.add(guest)

    def wait_for_client(self, guest: Guest) -> None:
        """The guest waits for its client from now on."""
        self._served.discard(guest)
        self._waiting.pop(guest, None)
        self._waiting[guest] = time.monotonic()
        self._admit()

    def hold(self, guest: Guest) -> None:
        """Call :meth:`Guest.room_made` as soon as there is room."""
        self._waiting.pop(guest, None)
        self._held.append(guest)

    def _admit(self) -> None:
        while self._held and len(self._served) < self._most:
            self._held.popleft().room_made()
