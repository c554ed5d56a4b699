"""What an error that the store answers is called: a damaged record, a refusal, or a bug of ours."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.redis import RedisServer

from cycles_server.store import store as store_module
from cycles_server.store.errors import StoreCorrupt, StoreError, StoreFault, StoreRefused
from cycles_server.store.keys import Keys
from cycles_server.store.scripts import Script
from cycles_server.store.store import Store


def script(body: str) -> Script:
    source = f"#!lua\n{body}".encode()
    return Script("trial", source, hashlib.sha1(source).hexdigest().encode())


def failure(url: str, monkeypatch: pytest.MonkeyPatch, body: str, *keys: str) -> StoreError:
    """What a caller of the store gets for a script, the second time that it runs."""
    monkeypatch.setattr(store_module, "load_script", lambda _: script(body))

    async def work() -> Any:
        store = Store(url, keys=Keys(), timeout_ms=2000)
        try:
            # EVAL, which leaves the script loaded, and then EVALSHA.
            first, second = [
                (await asyncio.gather(store.call("", "trial", keys, ()), return_exceptions=True))[0]
                for _ in "12"
            ]
        finally:
            await store.close()
        assert type(first) is type(second)
        return second

    error = asyncio.run(work())
    assert isinstance(error, StoreError)
    return error


@pytest.fixture
def text(store: RedisServer) -> Iterator[str]:
    """A key that holds a text that is no number."""
    name = "trial:text"
    store.client.set(name, "x")
    yield name
    store.client.delete(name)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("local row = nil; return row.state", "attempt to index"),
        ("return redis.call('NOSUCHCOMMAND')", "command called from script"),
        ("return redis.call('GET')", "Wrong number of args"),
        ("return redis.call('INCR', KEYS[1])", "not an integer"),
        ("return undeclared", "undeclared"),
        ("return (", "compiling script"),
        ("error('WRONGTYPE OOM of mine')", "of mine"),
        ("return redis.error_reply('ODD thing')", "ODD thing"),
    ],
)
def test_a_script_with_a_bug(
    store: RedisServer, text: str, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    error = failure(store.url, monkeypatch, body, text)
    assert type(error) is StoreFault
    assert says in str(error)


@pytest.mark.parametrize("call", ["call", "pcall"])
def test_a_record_of_the_wrong_type(
    store: RedisServer, text: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    error = failure(store.url, monkeypatch, f"return redis.{call}('HGET', KEYS[1], 'a')", text)
    assert type(error) is StoreCorrupt


def test_a_command_with_a_bug(store: RedisServer, text: str) -> None:
    async def work() -> list[Any]:
        opened = Store(store.url, keys=Keys(), timeout_ms=2000)
        commands = (("NOSUCHCOMMAND",), ("GET",), ("HGET", text, "a"), ("GET", text))
        try:
            return await asyncio.gather(
                *(opened.read(*command) for command in commands), return_exceptions=True
            )
        finally:
            await opened.close()

    *failed, value = asyncio.run(work())
    assert [type(one) for one in failed] == [StoreFault, StoreFault, StoreCorrupt]
    assert value == b"x"


def test_what_a_script_may_not_do_and_what_nobody_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permission that is found missing within a script may have come too late for the half of
    it; one that is missing for the call has not."""
    redis = RedisServer(tmp_path / "redis")
    body = "return redis.call('SET', KEYS[1], 'v')"
    try:
        redis.client.acl_setuser("default", enabled=True, commands=["-set"])
        assert type(failure(redis.url, monkeypatch, body, "k")) is StoreFault
        redis.client.acl_setuser("default", enabled=True, commands=["+set", "-evalsha"])
        refused = failure(redis.url, monkeypatch, body, "k")
        assert isinstance(refused, StoreRefused)
        assert refused.code == "NOPERM"
        redis.client.acl_setuser("default", enabled=True, commands=["+evalsha"])
        redis.client.config_set("maxmemory", 1)
        refused = failure(redis.url, monkeypatch, body, "k")
        assert isinstance(refused, StoreRefused)
        assert refused.code == "OOM"
    finally:
        redis.stop()
