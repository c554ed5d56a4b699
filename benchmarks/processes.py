"""The processes that are measured, and what they cost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

import click

ROOT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 30.0
_POLL_S = 0.005
_KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads counted, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_seconds() -> float:
    """Processor time of the whole machine so far that was not idle."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    idle = fields[3] + fields[4]  # the second: idle while a disk works
    return (sum(fields) - idle) / _TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(f"process {pid} has ended")


class WebProcess:
    """A web server in a process of its own, for as long as a ``with`` block lasts.

    Args:
        module: what ``python -m`` runs; it takes ``--host`` and ``--port``.
        ready: the path that answers 200 once it is ready.
        settings: its environment, beside what every program needs.
        python: that runs it, and ``root``: the folder that it runs in.
    """

    def __init__(
        self,
        module: str,
        ready: str,
        log: Path,
        settings: dict[str, str],
        *arguments: str,
        python: Path = Path(sys.executable),
        root: Path = ROOT,
    ) -> None:
        self._module = module
        self._ready = ready
        self._log = log
        self._settings = settings
        self._arguments = arguments
        self._python = python
        self._root = root
        self.ready_after_s = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> WebProcess:
        """Start it and wait until it is ready.

        Raises:
            click.ClickException: it ended, or was not ready in time.
        """
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(str(self._python), "-m", self._module, "--host", "127.0.0.1", "--port", str(port)),
            *self._arguments,
        ]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        started = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._root, env=environment | self._settings, stdout=log, stderr=log
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - started > _START_S:
                self._process.kill()
                raise click.ClickException(f"{self._module} did not start: {self._told()}")
            time.sleep(_POLL_S)
        self.ready_after_s = time.perf_counter() - started
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)

    def ask(self, path: str, secret: str = "", *, operator_key: str = "") -> None:
        """One GET, with one of the keys if there is one.

        Raises:
            OSError: no answer, or not a good one.
        """
        headers = {"X-Cycles-API-Key": secret} if secret else {}
        if operator_key:
            headers = {"X-Admin-API-Key": operator_key}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_START_S) as answer:
            answer.read()

    def _answers(self) -> bool:
        try:
            self.ask(self._ready)
        except OSError:
            return False
        return True

    def _told(self) -> str:
        return self._log.read_text()[-2000:]


def cycles_server(
    redis_url: str,
    log: Path,
    *,
    plane: str = "runtime",
    python: Path = Path(sys.executable),
    root: Path = ROOT,
    **settings: str,
) -> WebProcess:
    """One of the server's planes as it runs in production, one worker; another checkout's by
    ``python`` and ``root``."""
    return WebProcess(
        "cycles_server",
        "/actuator/health/readiness",
        log,
        {"REDIS_URL": redis_url, "CYCLES_RESPONSE_VALIDATION": "report", **settings},
        *(() if plane == "runtime" else (plane,)),
        python=python,
        root=root,
    )


def floor_server(redis_url: str, tenant: str, secret: str, log: Path) -> WebProcess:
    """The floor, see :mod:`benchmarks.floor`."""
    return WebProcess(
        "benchmarks.floor",
        "/ready",
        log,
        {},
        *("--redis-url", redis_url, "--tenant", tenant, "--secret", secret),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
