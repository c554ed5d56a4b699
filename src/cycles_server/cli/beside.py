"""A plane as a child process, beside the one that this process serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping

from cycles_server.embedded import child
from cycles_server.planes.plane import Plane

_BEYOND_GRACE_S = 5.0


class PlaneBeside:
    """Serves a plane for as long as the ``with`` block lasts, and stops this process by SIGTERM
    if the child ends before that.

    Start it from the main thread: on Linux it dies with the thread that started it.

    Args:
        environ: the child's environment.
        grace_s: how long its requests in flight get once it is told to stop.
    """

    def __init__(
        self, plane: Plane, host: str, port: int, environ: Mapping[str, str], *, grace_s: float
    ) -> None:
        self._plane = plane
        # -P: nothing in the folder that it is started from may pass for a module.
        program = (sys.executable, "-P", "-m", "cycles_server", plane.name)
        place = ("--host", host, "--port", str(port), "--workers", "1")
        self._command = child.bound([*program, *place])
        self._environ = environ
        self._wait_s = grace_s + _BEYOND_GRACE_S
        self._stopping = False
        self.ended: str | None = None
        """How the child ended before it was told to; None if it did not."""

    def __enter__(self) -> PlaneBeside:
        """Start it; that it cannot serve is told by ``ended`` a moment later."""
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for this process, which tells the child when its turn has come.
            start_new_session=True,
        )
        threading.Thread(target=self._watch, name=f"{self._plane.name}-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._process.terminate()
        try:
            self._process.wait(self._wait_s)
        except subprocess.TimeoutExpired:
            # It leads a session of its own, so this reaches a watcher's child as well.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _watch(self) -> None:
        status = self._process.wait()
        if not self._stopping:
            how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
            self.ended = f"the {self._plane.name} plane has ended {how}"
            os.kill(os.getpid(), signal.SIGTERM)
