"""The server as its users run it: a process of its own, spoken to over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_SECONDS = 90
ADMIN_KEY = "operator-secret"
PATIENT = {"REDIS_POOL_MAX_WAIT_MS": "15000"}
"""Settings under which nobody hears that the store is away because the machine is slow."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class CyclesServer:
    """``python -m cycles_server`` on a free port, answers enforced against the contract."""

    def __init__(
        self,
        redis_url: str,
        log: Path,
        *,
        arguments: tuple[str, ...] = (),
        settings: dict[str, str] | None = None,
        folder: Path | None = None,
        python: Path = Path(sys.executable),
        open_files: int | None = None,
        wait: bool = True,
        module: str = "cycles_server",
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        # `python -m` takes the package from the folder it is run in, where it is there.
        self._folder = folder
        self._command = [
            str(python), "-W", "error::ResourceWarning", "-m", module,
            "--host", "127.0.0.1", "--port", str(self.port), *arguments,
        ]  # fmt: skip
        if open_files is not None:
            limited = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(open_files))
            self._command = [*limited, *self._command]
        # Only what the test sets: nothing of the machine that it runs on.
        kept = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")
        self._environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "REDIS_URL": redis_url,
            "ADMIN_API_KEY": ADMIN_KEY,
            "CYCLES_RESPONSE_VALIDATION": "enforce",
            "CYCLES_EXPIRY_INTERVAL_MS": "200",
            "CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE": "100000",
            **(settings or {}),
        }
        self.start(wait=wait)

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_live()

    def wait_until_live(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/actuator/health/liveness", timeout=2)
                return
            except httpx.HTTPError:
                running = self.process.poll() is None and time.monotonic() < deadline
                assert running, self.log.read_text()
                time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)
