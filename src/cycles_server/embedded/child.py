"""Becomes a command that dies with the process that asked for it, as the embedded store does.

Run as a file, ``python child.py PARENT_PID COMMAND...``: a program of its own, because
code between fork and exec of a process with threads is not safe. Standard library only, so that
it starts under ``python -I -S``.

Linux tells this process of its parent's death, ``kill -9`` included, and keeps doing so after it
has become the command. Elsewhere it stays beside the command and looks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5


def bound(command: Sequence[str]) -> list[str]:
    """What to run in place of ``command``, so that it dies with this process; start it from the
    main thread, because on Linux it dies with the thread that started it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: Sequence[str]) -> int:
    """Returns an exit status; on Linux it returns only if something is wrong."""
    parent, command = int(arguments[0]), list(arguments[1:])
    if sys.platform != "linux":
        return watch(parent, command)
    # SIGTERM rather than SIGKILL: a store then closes its file and its socket.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        return watch(parent, command)
    if os.getppid() != parent:
        return 1  # it died before it could be watched
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    return 1


def watch(parent: int, command: Sequence[str]) -> int:
    """Run the command beside this process until it ends or the parent is gone."""
    try:
        # A store's lock on its data directory is inherited, and held until it is gone too.
        child = subprocess.Popen(command, close_fds=False)  # noqa: S603
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while child.poll() is None:
        if os.getppid() != parent:
            child.terminate()
        time.sleep(_LOOK_S)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
