"""``up``: two planes and a store, which live and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support.redis import RedisServer
from support.server import free_port
from support.wire import eventually

from cycles_server.embedded.store import running_url

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

START_S = 90
END_S = 60
KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")
CODE = "from cycles_server.cli import main; main()"


@dataclass
class Up:
    """A running ``up``."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    log: Path

    def get(self, path: str, *, admin: bool = False, key: str = "") -> int:
        """The status of an answer."""
        url = f"http://127.0.0.1:{self.admin_port if admin else self.port}{path}"
        return httpx.get(url, headers={"X-Admin-API-Key": key} if key else {}).status_code

    def family(self) -> dict[int, str]:
        """All that it has started and that runs, by process id: its command line."""
        parents, commands = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has gone meanwhile
            if stat[0] != "Z":
                pid = int(folder.name)
                parents[pid], commands[pid] = int(stat[1]), command
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: commands[pid] for pid in found - {self.process.pid}}

    def child(self, *words: str) -> int:
        """The one child with all these words in its command line."""
        [pid] = [
            pid
            for pid, command in self.family().items()
            if all(word in command.split() for word in words)
        ]
        return pid


StartUp = Callable[..., Up]


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[StartUp]:
    started: list[Up] = []

    def begin(*arguments: str, admin: bool = True, **environ: str) -> Up:
        port, admin_port = free_port(), free_port()
        log = tmp_path / f"up{len(started)}.log"
        command = [sys.executable, "-P", "-c", CODE, "up", "--port", str(port)]
        command += ["--admin-port", str(admin_port), "--data-dir", str(tmp_path / "data")]
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *arguments],
                env={**kept, **environ},
                cwd=tmp_path,
                stdout=file,
                stderr=file,
            )
        up = Up(process, port, admin_port, log)
        started.append(up)
        eventually(lambda: listening(port), START_S)
        if admin:
            eventually(lambda: listening(admin_port), START_S)
        return up

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.process.terminate()
        up.process.wait(END_S)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def all_gone(up: Up, family: dict[int, str]) -> None:
    eventually(lambda: all(map(gone, family)), END_S)
    assert not listening(up.port)
    assert not listening(up.admin_port)


def test_it_makes_a_key_that_only_the_admin_plane_knows(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up()
    path = tmp_path / "data" / "admin.key"
    key = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) == 64
    assert f"admin: http://127.0.0.1:{up.admin_port}, its key is in {path}\n" in up.log.read_text()
    assert up.get("/v1/admin/tenants/acme", admin=True, key=key) == 404
    assert up.get("/v1/admin/tenants/acme", admin=True) == 401
    assert up.get("/actuator/prometheus") == 200
    assert up.get("/actuator/prometheus", admin=True) == 401
    reading = "/v1/reservations?tenant=acme"
    assert up.get(reading, key=key) == 401
    up.process.terminate()
    assert up.process.wait(END_S) == 0
    assert key not in up.log.read_text()
    again = start_up()
    assert path.read_text().strip() == key
    assert again.get("/v1/admin/tenants/acme", admin=True, key=key) == 404


def test_a_configured_key_is_that_of_both(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up(ADMIN_API_KEY="operator-secret")
    assert not (tmp_path / "data" / "admin.key").exists()
    assert "its key is in ADMIN_API_KEY\n" in up.log.read_text()
    for admin in (False, True):
        assert up.get("/actuator/prometheus", admin=admin) == 401
        assert up.get("/actuator/prometheus", admin=admin, key="operator-secret") == 200


def test_the_runtime_alone(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up("--no-admin", admin=False)
    assert up.get("/actuator/health/readiness") == 200
    assert not listening(up.admin_port)
    assert not (tmp_path / "data" / "admin.key").exists()
    assert len(up.family()) == 1  # the store


def test_a_module_in_the_folder_is_not_taken_for_one_of_the_server(
    start_up: StartUp, tmp_path: Path
) -> None:
    (tmp_path / "cycles_server.py").write_text("raise SystemExit('not me')\n")
    # Nor does the contract of the one plane reach the other.
    contract = Path(__file__).parents[2] / "openapi" / "cycles-protocol-v0.yaml"
    up = start_up(CYCLES_SPEC=str(contract))
    assert up.get("/v1/admin/tenants/acme", admin=True) == 401


def test_on_a_configured_redis(start_up: StartUp, store: RedisServer, tmp_path: Path) -> None:
    up = start_up(REDIS_URL=store.url)
    assert up.get("/actuator/health/readiness") == 200
    assert up.get("/actuator/health/readiness", admin=True) == 200
    assert running_url(tmp_path / "data") is None
    family = up.family()
    assert len(family) == 1  # the admin plane
    up.process.terminate()
    assert up.process.wait(END_S) == 0
    all_gone(up, family)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_ends_all(start_up: StartUp, stop: signal.Signals, workers: str) -> None:
    up = start_up("--workers", workers)
    family = up.family()
    up.process.send_signal(stop)
    assert up.process.wait(END_S) == 0
    assert "plane has ended" not in up.log.read_text()
    all_gone(up, family)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_of_the_admin_plane_is_the_end_of_all(start_up: StartUp, workers: str) -> None:
    up = start_up("--workers", workers)
    family = up.family()
    os.kill(up.child("cycles_server", "admin"), signal.SIGKILL)
    assert up.process.wait(END_S) == 1
    last = up.log.read_text().splitlines()[-1]
    assert last == "Error: the admin plane has ended by signal 9, and so has this server"
    all_gone(up, family)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_is_left_behind(start_up: StartUp, workers: str) -> None:
    up = start_up("--workers", workers)
    family = up.family()
    assert len(family) >= 2
    up.process.kill()
    up.process.wait()
    all_gone(up, family)


def test_an_admin_plane_that_cannot_start_is_the_end_of_all(
    start_up: StartUp, tmp_path: Path
) -> None:
    # It is cut off from its own code: what it is started with is gone.
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\nif 'admin' in sys.orig_argv: raise SystemExit('no room')\n"
    )
    up = start_up(admin=False, PYTHONPATH=str(folder))
    assert up.process.wait(END_S) == 1
    lines = up.log.read_text().splitlines()
    assert lines[-1].startswith("Error: the admin plane has ended with exit status ")
