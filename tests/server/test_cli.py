"""The command line: what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from redis import Redis
from support.redis import RedisServer, told_of
from support.server import free_port

from cycles_server.cli import main
from cycles_server.embedded.store import EmbeddedRedis
from cycles_server.store.store import Store

FREE_OF_REDIS = {"REDIS_URL": None, "REDIS_HOST": None}


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"), fsync="no")
    yield redis
    redis.stop()


@pytest.fixture
def url(own_store: RedisServer) -> Iterator[str]:
    """Of an empty store."""
    own_store.client.flushall()
    yield own_store.url
    left = own_store.lasting()
    assert not left, told_of(left)


def run(*arguments: str, **environ: str | None) -> Result:
    return CliRunner().invoke(
        main, arguments, env={**FREE_OF_REDIS, **environ}, prog_name="cycles-server"
    )


def command_of(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def error_line(result: Result) -> str:
    """The one line on standard error of a command that failed."""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class TestHelp:
    @pytest.mark.parametrize("command", ["serve", "up", "seed", "doctor", "demo"])
    def test_every_command_and_option_is_explained(self, command: str) -> None:
        assert f"\n  {command} " in run("--help").output
        result = run(command, "--help")
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: cycles-server {command} [OPTIONS]")
        for parameter in command_of(command).params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command} {parameter.name}"
            else:
                assert f"\n  {parameter.name.upper()} is " in result.output


class TestSeed:
    def test_twice(self, url: str) -> None:
        arguments = ("seed", "--tenant", "acme", "--budget", "tenant:acme=$1", "--agent")
        first = run(*arguments, "bot=5000:TOKENS", REDIS_URL=url)
        assert first.exit_code == 0, first.output
        assert "cyc_live_" in first.output
        assert "$1.00" in first.output
        second = run(*arguments, "bot=9:TOKENS", REDIS_URL=url)
        assert second.exit_code == 0
        assert "cyc_live_" not in second.output
        assert ": was there, left as it is\n" in second.output
        assert "left as it is; add --set to make it 9 TOKENS\n" in second.output
        with Redis.from_url(url, decode_responses=True) as client:
            budget = client.hgetall("budget:tenant:acme/agent:bot:TOKENS")
            assert (budget["allocated"], client.scard("apikeys:acme")) == ("5000", 1)

    def test_for_machines(self, url: str) -> None:
        arguments = ("seed", "--tenant", "acme", "--budget", "tenant:acme=7:CREDITS", "--json")
        document = json.loads(run(*arguments, REDIS_URL=url).stdout)
        assert document["tenant"] == {"tenant_id": "acme", "created": True}
        assert document["api_key"].startswith("cyc_live_")
        assert document["budgets"] == [
            {
                "scope": "tenant:acme",
                "unit": "CREDITS",
                "allocated": 7,
                "remaining": 7,
                "created": True,
                "replaced": None,
            }
        ]
        assert json.loads(run(*arguments, REDIS_URL=url).stdout)["api_key"] is None
        another = json.loads(run(*arguments, "--new-key", REDIS_URL=url).stdout)["api_key"]
        assert another not in (None, document["api_key"])

    def test_setting_what_exists(self, url: str) -> None:
        arguments = ("seed", "--tenant", "acme", "--budget")
        run(*arguments, "tenant:acme=500:TOKENS", REDIS_URL=url)
        with Redis.from_url(url) as client:
            client.hset("budget:tenant:acme:TOKENS", mapping={"spent": 200, "remaining": 300})
        wanted = (*arguments, "tenant:acme=100:TOKENS", "--agent", "bot=9:TOKENS", "--set")
        result = run(*wanted, REDIS_URL=url)
        assert result.exit_code == 0, result.output
        assert result.output.splitlines()[-4:] == [
            "budget   tenant:acme",
            "         100 TOKENS allocated, -100 TOKENS remaining: set, was 500 TOKENS",
            "budget   tenant:acme/agent:bot",
            "         9 TOKENS allocated, 9 TOKENS remaining: created",
        ]
        document = json.loads(run(*wanted, "--json", REDIS_URL=url).stdout)
        assert [entry["replaced"] for entry in document["budgets"]] == [100, 9]
        with Redis.from_url(url) as client:
            client.hset("budget:tenant:acme:TOKENS", "status", "FROZEN")
        result = run(*wanted, REDIS_URL=url)
        expected = "The budget is frozen: unfreeze it first"
        assert (result.exit_code, error_line(result)) == (1, expected)

    def test_scopes_are_made_in_lower_case(self, url: str) -> None:
        result = run("seed", "--tenant", "acme", "--agent", "Bot=$1", REDIS_URL=url)
        assert "budget   tenant:acme/agent:bot\n" in result.output

    @pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1", "COLUMNS": "20"}])
    def test_long_scopes_are_told_whole(self, url: str, terminal: dict[str, str]) -> None:
        scopes = [f"tenant:acme/workspace:{'w' * 100}/agent:{name * 100}" for name in "ab"]
        budgets = [part for scope in scopes for part in ("--budget", f"{scope}=$1")]
        output = run("seed", "--tenant", "acme", *budgets, REDIS_URL=url, **terminal).output
        assert [scope in output for scope in scopes] == [True, True]

    def test_a_key_kept_in_a_file(self, url: str, tmp_path: Path) -> None:
        path = tmp_path / "key"
        arguments = ("seed", "--tenant", "acme", "--json", "--key-file", str(path))
        secrets = [json.loads(run(*arguments, REDIS_URL=url).stdout)["api_key"] for _ in "12"]
        assert secrets == [path.read_text().strip()] * 2

    def test_a_key_file_that_cannot_be_written(self, url: str, tmp_path: Path) -> None:
        path = tmp_path / "absent" / "key"
        result = run("seed", "--tenant", "acme", "--key-file", str(path), REDIS_URL=url)
        assert (result.exit_code, error_line(result)) == (1, f"{path}: No such file or directory")

    @pytest.mark.parametrize(
        ("arguments", "status", "says"),
        [
            (["--tenant", "Acme"], 1, "tenant_id: must be 3 to 64 of"),
            (["--tenant", "acme", "--budget", "tenant:other=$1"], 1, "is not below tenant:acme"),
            (["--tenant", "acme", "--agent", f"bot={2**63}:TOKENS"], 1, "must be from 0 to"),
            (["--tenant", "acme", "--budget", "tenant:acme"], 2, "write it like"),
            (["--tenant", "acme", "--budget", "tenant:acme=5"], 2, "needs its unit"),
            (["--tenant", "acme", "--new-key", "--key-file", "x"], 2, "exclude each other"),
            ([], 2, "Missing option '--tenant'"),
        ],
    )
    def test_what_cannot_be_done(
        self, url: str, arguments: list[str], status: int, says: str
    ) -> None:
        result = run("seed", *arguments, REDIS_URL=url)
        assert result.exit_code == status
        assert says in result.stderr.splitlines()[-1]
        with Redis.from_url(url) as client:
            assert client.dbsize() == 0


class TestDoctor:
    def test_healthy(self, url: str) -> None:
        run("seed", "--tenant", "acme", "--budget", "tenant:acme=$1", REDIS_URL=url)
        result = run("doctor", REDIS_URL=url)
        assert result.exit_code == 0, result.output
        assert "healthy: the books balance" in result.output

    def test_findings(self, url: str) -> None:
        run("seed", "--tenant", "acme", "--budget", "tenant:acme=$1", REDIS_URL=url)
        with Redis.from_url(url) as client:
            client.hincrby("budget:tenant:acme:USD_MICROCENTS", "spent", 5)
        result = run("doctor", REDIS_URL=url)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "INVARIANT" in result.output
        result = run("doctor", "--json", REDIS_URL=url)
        assert result.exit_code == 1
        report = json.loads(result.stdout)
        assert report["healthy"] is False
        assert [finding["code"] for finding in report["findings"]] == ["INVARIANT"]
        assert report["counted"]["budgets"] == 1

    def test_a_store_that_is_away(self) -> None:
        result = run("doctor", REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}")
        assert result.exit_code == 2
        assert error_line(result).startswith("the store failed: ")
        assert "hunter2" not in result.output

    def test_a_store_that_refuses_within(self, tmp_path: Path) -> None:
        redis = RedisServer(tmp_path / "redis")
        redis.client.hset("budget:tenant:acme:TOKENS", mapping={"allocated": 1, "remaining": 1})
        # Refused in the midst of the check, when the settings of the store have been read.
        redis.client.acl_setuser("default", enabled=True, commands=["-scan"])
        try:
            result = run("doctor", REDIS_URL=redis.url)
        finally:
            redis.stop()
        assert (result.exit_code, result.stdout) == (2, "")
        assert error_line(result).startswith("the store failed: ")

    @pytest.mark.parametrize("command", [("doctor",), ("seed", "--tenant", "acme")])
    def test_a_store_that_dies_within(
        self, tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redis = RedisServer(tmp_path / "redis")
        ask = Store.read

        def last_answer(self: Store, *asked: Any) -> Any:
            reply = ask(self, *asked)
            reply.add_done_callback(lambda _: redis.kill())
            return reply

        monkeypatch.setattr(Store, "read", last_answer)  # PING is the first that is asked
        try:
            result = run(*command, REDIS_URL=redis.url)
        finally:
            redis.stop()
        assert (result.exit_code, result.stdout) == (2, "")
        assert error_line(result).startswith("the store failed: ")

    def test_a_setting_that_is_not_allowed(self) -> None:
        result = run("doctor", REDIS_PORT="x")
        assert result.exit_code == 2
        assert "REDIS_PORT" in error_line(result)

    def test_no_embedded_store_where_one_was_named(self, tmp_path: Path) -> None:
        result = run("doctor", "--data-dir", str(tmp_path))
        assert result.exit_code == 2
        assert error_line(result).startswith(f"no embedded store runs on {tmp_path}")


class TestUp:
    def test_a_port_that_is_taken(self, tmp_path: Path, taken_port: int) -> None:
        data = tmp_path / "data"
        result = run("up", "--port", str(taken_port), "--data-dir", str(data))
        assert result.exit_code == 1
        expected = f"cannot listen on 127.0.0.1:{taken_port}: Address already in use"
        assert error_line(result) == expected
        assert not data.exists()

    @pytest.mark.parametrize("same", [False, True])
    def test_an_admin_port_that_is_taken(self, tmp_path: Path, taken_port: int, same: bool) -> None:
        data = tmp_path / "data"
        port = free_port()
        admin_port = port if same else taken_port
        ports = ("--port", str(port), "--admin-port", str(admin_port))
        result = run("up", *ports, "--data-dir", str(data))
        assert result.exit_code == 1
        expected = f"cannot listen on 127.0.0.1:{admin_port}: Address already in use"
        assert error_line(result) == expected
        assert not data.exists()

    def test_a_setting_that_is_not_allowed_to_the_admin_plane(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        ports = ("--port", str(free_port()), "--admin-port", str(free_port()))
        result = run("up", *ports, "--data-dir", str(data), SWAGGER_ENABLED="perhaps")
        assert result.exit_code == 2
        assert "SWAGGER_ENABLED='perhaps' is not allowed" in error_line(result)
        assert not data.exists()

    def test_a_data_directory_that_is_in_use(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path):
            ports = ("--port", str(free_port()), "--admin-port", str(free_port()))
            result = run("up", *ports, "--data-dir", str(tmp_path))
        assert result.exit_code == 1
        assert "is in use by another server" in error_line(result)

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_serves_proves_and_stops(self, tmp_path: Path, stop: signal.Signals) -> None:
        port, admin_port = free_port(), free_port()
        ports = ("--port", str(port), "--admin-port", str(admin_port))
        environ = {name: os.environ[name] for name in os.environ if not name.startswith("REDIS_")}
        code = "from cycles_server.cli import main; main()"
        up = subprocess.Popen(
            [sys.executable, "-c", code, "up", *ports, "--data-dir", str(tmp_path)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            data = ("--data-dir", str(tmp_path))
            admin_url = f"http://127.0.0.1:{admin_port}"
            wanted = ("demo", "--url", f"http://127.0.0.1:{port}", "--admin-url", admin_url, *data)
            result = run(*wanted)
            assert result.exit_code == 0, result.output
            for step in ("reserve", "commit", "balance", "BUDGET_EXCEEDED", "CREDIT", "curl -s"):
                assert step in result.output
            secret = (tmp_path / "acme.key").read_text()
            assert run(*wanted, "--check").exit_code == 0
            assert (tmp_path / "acme.key").read_text() == secret
            refused = run(*wanted, "--admin-key", "wrong")
            assert refused.exit_code == 2
            assert "does not take this admin key" in error_line(refused)
            assert run(*wanted, "--tenant", "admin").exit_code == 2  # its file would be the key's
            assert run("doctor", *data).exit_code == 0
            assert (tmp_path / "acme.key").stat().st_mode & 0o777 == 0o600
        finally:
            up.send_signal(stop)
            assert up.wait(60) == 0
        with EmbeddedRedis(tmp_path) as store, Redis.from_url(store.url) as client:
            assert client.hget("budget:tenant:acme:USD_MICROCENTS", "spent") == b"84000"
            assert client.hget("budget:tenant:acme:USD_MICROCENTS", "remaining") == b"100000000"

    def test_a_demo_without_a_server(self) -> None:
        started = time.monotonic()
        result = run("demo", "--url", f"http://127.0.0.1:{free_port()}", "--wait", "0.2")
        assert result.exit_code == 1
        assert error_line(result).startswith("the server is not ready: ")
        assert time.monotonic() - started < 5
