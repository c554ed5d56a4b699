"""Whether the store can do the work, which is more than whether it answers."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from cycles_server.store.direct import DirectConnection
from cycles_server.store.errors import StoreError
from cycles_server.store.findings import ERROR, Finding
from cycles_server.store.fitness import HIDDEN, is_hidden, judge, read_info
from cycles_server.store.keys import Keys as KeyNames

log = logging.getLogger(__name__)

FRESH_S = 1.0
"""For so many seconds a status is told again without asking the store."""
_KEPT_MS = 60_000

NAME = "probe"
"""The script; its KEYS and ARGV are :class:`Keys` and :class:`Arguments`."""


class Keys(NamedTuple):
    probed: str


class Arguments(NamedTuple):
    kept_ms: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What a probe found.

    Attributes:
        up: the store takes writes and keeps them.
        detail: why not, or what it is; holds no address and no secret.
        findings: what its own facts say about it; see :mod:`cycles_server.store.fitness`.
    """

    up: bool
    detail: str
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What an operator should know while it is up."""
        return [finding.sentence for finding in self.findings if finding.level != ERROR]


class StoreProbe:
    """Asks the store at most once a second, however many ask the probe.

    One check runs at a time, in a thread of its own: a time limit of the client counts for each
    read and each address only, and none counts while a name is looked up.

    Args:
        url: a Redis URL (``redis://``, ``rediss://``, ``unix://``).
        timeout_s: seconds after which the store counts as hung; :meth:`check` never takes longer.
    """

    def __init__(self, url: str, timeout_s: float = 1.5) -> None:
        self._timeout = timeout_s
        self._store = DirectConnection(url, timeout_s=timeout_s, name="cycles-server-probe")
        self._lock = threading.Lock()
        self._status: StoreStatus | None = None
        self._checked_at = float("-inf")
        self._running: threading.Event | None = None
        self._started_at = 0.0

    def check(self) -> StoreStatus:
        """The store's status, at most ``FRESH_S + timeout_s`` seconds old. Never raises.

        Whoever comes while a check is under way gets the last status at once, so that a hung
        store holds one caller and not all of them.
        """
        with self._lock:
            now = time.monotonic()
            if self._status is not None and now - self._checked_at < FRESH_S:
                return self._status
            if self._running is None:
                running = threading.Event()
                threading.Thread(target=self._run, name="store-probe", daemon=True).start()
                self._running = running
                self._started_at = now
            elif self._status is not None:
                return self._status
            else:
                running = self._running
            left = self._started_at + self._timeout - now
        running.wait(max(left, 0.0))
        with self._lock:
            if self._status is None or self._running is running:
                self._settle(StoreStatus(False, f"no answer within {self._timeout:g} s"))
            assert self._status is not None
            return self._status

    def close(self) -> None:
        """Hang up."""
        self._store.close()

    def _run(self) -> None:
        status = self._ask()
        if not status.up:
            # The address may lead elsewhere by the next time, as after a fail-over.
            self._store.hang_up()
        with self._lock:
            self._settle(status)
            self._checked_at = time.monotonic()
            assert self._running is not None
            self._running.set()
            self._running = None

    def _settle(self, status: StoreStatus) -> None:
        """Keep a status; the lock is held."""
        before, self._status = self._status, status
        if not status.up and (before is None or before.up):
            log.warning("store down: %s", status.detail)
        elif status.up and before is not None and not before.up:
            log.warning("store up again: %s", status.detail)

    def _ask(self) -> StoreStatus:
        try:
            self._store.command("PING")
            findings = self._findings()
            for finding in findings:
                if finding.level == ERROR:
                    return StoreStatus(False, finding.sentence, findings)
            # Only now: a replica may be set to take writes; it loses them all the same.
            self._store.call(NAME, Keys(KeyNames.probe()), Arguments(_KEPT_MS))
        except StoreError as error:
            return StoreStatus(False, str(error))
        except Exception:
            # An answer that is not Redis's. Whatever it is, a probe says "down" and lives on.
            log.exception("the store probe failed")
            return StoreStatus(False, "the store gave an answer that cannot be read")
        return StoreStatus(True, "ok", findings)

    def _findings(self) -> tuple[Finding, ...]:
        try:
            info = read_info(self._store.command("INFO"))
        except StoreError as error:
            if not is_hidden(error):
                raise
            return (HIDDEN,)
        return tuple(judge(info))
