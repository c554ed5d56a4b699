"""Whether the store can do the work, which is more than whether it answers."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError
from redis.retry import Retry

log = logging.getLogger(__name__)

PROBE_KEY = "cycles:probe"
FRESH_S = 1.0
"""For so many seconds a status is told again without asking the store."""

# A script that writes, because that is what every operation of the ledger is: a full store, a
# replica, a failed snapshot or a missing permission refuses it while PING still answers. With
# the shebang Redis refuses such a script before it runs.
_WRITE = f"""#!lua
-- KEYS[1] {PROBE_KEY}
return redis.call('SET', KEYS[1], '1', 'PX', 60000)
"""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What a probe found.

    Attributes:
        up: the store takes writes and keeps them.
        detail: why not, or what it is; holds no address and no secret.
        warnings: what an operator should know while it is up.
    """

    up: bool
    detail: str
    warnings: list[str] = field(default_factory=list)


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
        self._redis: Redis = Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            # redis-py would otherwise ask up to ten times over.
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            protocol=2,
            client_name="cycles-server-probe",
        )
        self._sha = self._redis.register_script(_WRITE).sha
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
        self._redis.close()

    def _run(self) -> None:
        status = self._ask()
        if not status.up:
            # The address may lead elsewhere by the next time, as after a fail-over.
            self._redis.connection_pool.disconnect()
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
            self._redis.ping()
            status = self._judge()
            # A replica may be set to take writes; it loses them all the same.
            if status.up:
                self._write()
        except (RedisError, OSError) as error:
            return StoreStatus(False, _reason(error))
        except Exception:
            # An answer that is not Redis's. Whatever it is, a probe says "down" and lives on.
            log.exception("the store probe failed")
            return StoreStatus(False, "the store gave an answer that cannot be read")
        return status

    def _judge(self) -> StoreStatus:
        """What the store says about itself: INFO, because hosted stores often hide CONFIG."""
        try:
            facts = self._redis.info("replication", "memory", "persistence")
        except NoPermissionError:
            return StoreStatus(
                True, "ok", ["INFO is not permitted: role and maxmemory-policy are unchecked"]
            )
        role, policy = facts["role"], facts["maxmemory_policy"]
        if role != "master":
            return StoreStatus(False, "the store is a replica")
        if policy != "noeviction":
            return StoreStatus(
                False, f"maxmemory-policy is {policy}: a full store would lose money silently"
            )
        warnings = []
        if not facts["aof_enabled"]:
            warnings.append("appendonly is off: what was written last is lost if the store dies")
        return StoreStatus(True, "ok", warnings)

    def _write(self) -> None:
        try:
            self._redis.evalsha(self._sha, 1, PROBE_KEY)
        except NoScriptError:
            self._redis.eval(_WRITE, 1, PROBE_KEY)


def _reason(error: Exception) -> str:
    """What failed, without the address that redis-py puts into its messages."""
    kind = type(error).__name__
    # Redis's own refusals begin with a code in capitals (``OOM``, ``MISCONF``, ...); redis-py
    # strips it from those that it has a class for.
    code = str(error).partition(" ")[0]
    return f"{kind}: {code}" if code.isascii() and code.isalpha() and code.isupper() else kind
