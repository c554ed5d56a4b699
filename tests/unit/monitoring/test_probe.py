"""Whether the probe tells a store that can work from one that only answers: real servers."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.redis import binary
from support.server import free_port
from support.wire import eventually

from cycles_server.monitoring.probe import FRESH_S, StoreProbe, StoreStatus
from cycles_server.store.keys import Keys


class Server:
    """A server of its own on a Unix socket, or a port where another server must reach it."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = port
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "dir": self.folder,
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync-delay": 0,
        }
        arguments = [part for name, text in options.items() for part in (f"--{name}", str(text))]
        self.process = subprocess.Popen(
            [binary(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.admin: Redis = Redis.from_url(self.url, decode_responses=True)
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except RedisError:
            return False

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.admin.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "a")
    yield server
    server.stop()


@pytest.fixture
def probe(server: Server) -> Iterator[StoreProbe]:
    probe = StoreProbe(server.url)
    yield probe
    probe.close()


def fresh(probe: StoreProbe) -> StoreStatus:
    """A status younger than this call."""
    time.sleep(FRESH_S + 0.05)
    return probe.check()


def settled(probe: StoreProbe, up: bool) -> None:
    eventually(lambda: probe.check().up is up)


def test_a_store_that_works(server: Server, probe: StoreProbe) -> None:
    status = probe.check()
    assert status.up
    assert any("appendonly" in warning for warning in status.warnings)
    assert 0 < int(server.admin.pttl(Keys.probe())) <= 60_000
    server.admin.config_set("appendonly", "yes")
    assert fresh(probe).warnings == []


def test_many_probes_are_one_check(server: Server, probe: StoreProbe) -> None:
    def calls() -> int:
        stats = server.admin.info("commandstats")
        return sum(
            entry["calls"]
            for name, entry in stats.items()
            if name in ("cmdstat_eval", "cmdstat_evalsha")
        )

    statuses: list[StoreStatus] = []
    threads = [threading.Thread(target=lambda: statuses.append(probe.check())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status.up for status in statuses] == [True] * 40
    assert calls() <= 2  # EVALSHA, and EVAL since the script was new


def test_a_hung_store_is_down_in_time_and_comes_back(server: Server, probe: StoreProbe) -> None:
    assert probe.check().up
    time.sleep(FRESH_S)
    server.hang()
    try:
        before = time.monotonic()
        status = probe.check()
        assert time.monotonic() - before < 2
        assert not status.up
        assert "1.5 s" in status.detail or "Timeout" in status.detail
        # While it hangs, a storm of probes neither waits nor makes threads.
        threads = threading.active_count()
        before = time.monotonic()
        assert not any(probe.check().up for _ in range(1000))
        assert time.monotonic() - before < 2
        assert threading.active_count() <= threads + 1
    finally:
        server.wake()
    settled(probe, up=True)


def test_only_one_caller_waits_for_a_hung_store(server: Server, probe: StoreProbe) -> None:
    probe.check()
    time.sleep(FRESH_S)
    server.hang()
    try:
        waiting = threading.Thread(target=probe.check)
        waiting.start()
        eventually(lambda: any(t.name == "store-probe" for t in threading.enumerate()))
        before = time.monotonic()
        probe.check()
        assert time.monotonic() - before < 0.5
        waiting.join(timeout=5)
        assert not waiting.is_alive()
        assert not probe.check().up
    finally:
        server.wake()


def test_a_store_that_takes_connections_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        probe = StoreProbe(f"redis://:secret@127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.3)
        before = time.monotonic()
        with caplog.at_level(logging.WARNING):
            assert not probe.check().up
        assert time.monotonic() - before < 1
        assert "store down" in caplog.text
        assert "secret" not in caplog.text
        probe.close()


def test_a_dead_store_and_its_successor(
    server: Server, probe: StoreProbe, caplog: pytest.LogCaptureFixture
) -> None:
    assert probe.check().up
    server.stop()
    status = fresh(probe)
    assert not status.up
    assert str(server.folder) not in status.detail
    with caplog.at_level(logging.WARNING):
        server.start()
        settled(probe, up=True)
    assert "store up again" in caplog.text


def test_nobody_there() -> None:
    probe = StoreProbe(f"redis://127.0.0.1:{free_port()}")
    assert not probe.check().up


def test_a_full_store(server: Server, probe: StoreProbe) -> None:
    server.admin.set("filling", "x" * 2_000_000)
    server.admin.config_set("maxmemory", "1mb")
    status = probe.check()
    assert not status.up
    assert "OutOfMemory" in status.detail or "OOM" in status.detail
    server.admin.config_set("maxmemory", "0")
    settled(probe, up=True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_store_that_would_evict(server: Server, probe: StoreProbe, policy: str) -> None:
    server.admin.config_set("maxmemory-policy", policy)
    status = probe.check()
    assert not status.up
    assert policy in status.detail
    server.admin.config_set("maxmemory-policy", "noeviction")
    settled(probe, up=True)


@pytest.mark.parametrize("read_only", ["yes", "no"])
def test_a_replica(tmp_path: Path, server: Server, probe: StoreProbe, read_only: str) -> None:
    other = Server(tmp_path / "b", port=free_port())
    try:
        server.admin.config_set("replica-read-only", read_only)
        server.admin.replicaof("127.0.0.1", other.port)
        eventually(lambda: server.admin.info("replication").get("master_link_status") == "up")
        status = probe.check()
        assert not status.up
        assert "replica" in status.detail
        server.admin.replicaof("NO", "ONE")
        settled(probe, up=True)
    finally:
        other.stop()


def test_too_few_replicas(server: Server, probe: StoreProbe) -> None:
    server.admin.config_set("min-replicas-to-write", 1)
    status = probe.check()
    assert not status.up
    assert "NOREPLICAS" in status.detail
    server.admin.config_set("min-replicas-to-write", 0)
    settled(probe, up=True)


def test_scripts_not_permitted(server: Server, probe: StoreProbe) -> None:
    server.admin.acl_setuser("default", commands=["-evalsha"], enabled=True)
    assert not probe.check().up
    server.admin.acl_setuser("default", commands=["+evalsha"], enabled=True)
    settled(probe, up=True)


def test_info_not_permitted_is_a_warning(server: Server, probe: StoreProbe) -> None:
    server.admin.acl_setuser("default", commands=["-info"], enabled=True)
    status = probe.check()
    assert status.up
    assert any("INFO" in warning for warning in status.warnings)


def test_lost_scripts_and_connections_are_no_failure(server: Server, probe: StoreProbe) -> None:
    assert probe.check().up
    server.admin.script_flush()
    assert fresh(probe).up
    server.admin.client_kill_filter(_type="normal", skipme=True)
    assert fresh(probe).up
    server.admin.config_set("timeout", 1)
    time.sleep(1.5)
    assert fresh(probe).up
