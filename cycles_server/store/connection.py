"""One connection to Redis, shared by every request of this process.

The commands of one turn of the event loop go out in a single write and the replies come back in
order. The connection itself (address, TLS, authentication, RESP parsing) is redis-py's; what is
added here is only who waits for which reply, and until when.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from cycles_server.store.errors import StoreCorrupt, StoreRefused, StoreTimeout, StoreUnavailable
from cycles_server.store.scripts import Script

Argument = str | bytes | int
Reply = Any


def _pack(arguments: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


# Error prefixes by which Redis says that it cannot do the work at present.
_REFUSALS = (
    "OOM",
    "READONLY",
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "NOPERM",
    "NOAUTH",
    "TRYAGAIN",
)


class _Pending:
    """A command on its way: what was sent, who waits, and how long."""

    __slots__ = ("command", "deadline", "future", "replay_safe", "script")

    def __init__(
        self,
        command: bytes,
        future: asyncio.Future[Reply],
        deadline: float,
        script: tuple[Script, Sequence[Argument]] | None,
        replay_safe: bool,
    ) -> None:
        self.command = command
        self.future = future
        self.deadline = deadline
        self.script = script
        self.replay_safe = replay_safe


class SharedConnection:
    """Commands of many tasks over one connection, each with a deadline.

    Three outcomes: a reply; *not run* (:class:`StoreUnavailable`, :class:`StoreRefused`);
    *unknown* (:class:`StoreTimeout`). A command that was sent is sent again by itself only if
    Redis says that it did not run (``NOSCRIPT``), or if it is marked replay-safe.
    """

    def __init__(self, url: str, *, timeout_ms: int, name: str = "cycles-server") -> None:
        self._timeout = timeout_ms / 1000
        # The pool is only redis-py's way to read a URL into a connection; it is never asked
        # for a second one. Its own time-outs and resends are off: deadlines are kept here.
        self._factory = ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            client_name=name,
            protocol=2,
        )
        self._connection: AbstractConnection | None = None
        self._outbox: list[_Pending] = []
        self._sent: deque[_Pending] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    # -- commands ----------------------------------------------------------------------------

    def command(self, *arguments: Argument, replay_safe: bool = False) -> asyncio.Future[Reply]:
        """Queue a command; await the result for its reply (bytes undecoded)."""
        return self._submit(_pack(arguments), None, replay_safe)

    def evaluate(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        replay_safe: bool = False,
    ) -> asyncio.Future[Reply]:
        """Queue a script call by its hash; the source is sent if Redis does not know it."""
        tail = (len(keys), *keys, *arguments)
        packed = _pack(("EVALSHA", script.sha, *tail))
        return self._submit(packed, (script, tail), replay_safe)

    def _submit(
        self,
        packed: bytes,
        script: tuple[Script, Sequence[Argument]] | None,
        replay_safe: bool,
    ) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable("the store connection is closed"))
            return future
        pending = _Pending(packed, future, loop.time() + self._timeout, script, replay_safe)
        self._outbox.append(pending)
        self._wake.set()
        if self._writer is None or self._writer.done():
            self._writer = self._spawn(self._write_forever())
        if self._watch is None:
            self._watch = loop.call_at(pending.deadline, self._check_deadlines)
        return future

    # -- the two directions --------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._outbox:
                continue
            connection = self._connection
            if connection is None:
                connection = await self._connect()
                if connection is None:
                    continue
            batch, self._outbox = self._outbox, []
            self._sent.extend(batch)
            try:
                await connection.send_packed_command(
                    [pending.command for pending in batch], check_health=False
                )
            except (RedisError, OSError) as error:
                self._lost(connection, error)

    async def _connect(self) -> AbstractConnection | None:
        connection: AbstractConnection = self._factory.make_connection()  # type: ignore[no-untyped-call]
        try:
            # Half of what a call may wait: whoever comes during an attempt that fails for
            # want of an answer has time for another one.
            await asyncio.wait_for(connection.connect(), self._timeout / 2)  # type: ignore[no-untyped-call]
        except TimeoutError:
            await _hang_up(connection)
            if self._outbox:  # each until its own deadline
                self._wake.set()
            return None
        except (RedisError, OSError) as error:
            waiting, self._outbox = self._outbox, []
            for pending in waiting:
                _fail(pending, StoreUnavailable(f"cannot connect to Redis: {error}"))
            return None
        self._connection = connection
        self._spawn(self._read_forever(connection))
        return connection

    async def _read_forever(self, connection: AbstractConnection) -> None:
        sent = self._sent
        while True:
            try:
                reply = await connection.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                if sent:
                    self._answer_error(sent.popleft(), error)
                continue
            except (RedisError, OSError) as error:
                self._lost(connection, error)
                return
            if not sent:  # a reply nobody asked for: the two ends no longer agree
                self._lost(connection, ConnectionError("unexpected reply"))
                return
            future = sent.popleft().future
            if not future.done():
                future.set_result(reply)

    def _answer_error(self, pending: _Pending, error: ResponseError) -> None:
        if pending.future.done():
            return  # nobody waits for it any more
        if isinstance(error, NoScriptError) and pending.script is not None:
            # A restarted or failed-over node knows no scripts; the call has not run. EVAL
            # carries the source and leaves it loaded for the next one.
            script, tail = pending.script
            pending.command = _pack(("EVAL", script.source, *tail))
            pending.script = None
            self._outbox.append(pending)
            self._wake.set()
            return
        # redis-py strips the code of the errors that it has a class for.
        text = f"{type(error).__name__}: {error}"
        name = type(error).__name__.removesuffix("Error").upper()
        refused = str(error).startswith(_REFUSALS) or name in (
            "OUTOFMEMORY",
            "READONLY",
            "BUSYLOADING",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "NOPERMISSION",
            "AUTHENTICATION",
            "TRYAGAIN",
        )
        _fail(pending, StoreRefused(text) if refused else StoreCorrupt(text))

    # -- failures --------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        self._watch = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._connection is not None and self._sent and self._sent[0].deadline <= now:
            # Replies come in order, so everything behind the late one is late too.
            self._lost(self._connection, TimeoutError())
        while self._outbox and self._outbox[0].deadline <= now:
            _fail(self._outbox.pop(0), StoreUnavailable("Redis did not take the call in time"))
        heads = [queue[0].deadline for queue in (self._sent, self._outbox) if queue]
        if heads:
            self._watch = loop.call_at(min(heads), self._check_deadlines)

    def _lost(self, connection: AbstractConnection, error: BaseException) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        sent, unanswered = self._sent, []
        self._sent = deque()
        timed_out = isinstance(error, TimeoutError)
        for pending in sent:
            if pending.replay_safe and not timed_out:
                pending.replay_safe = False  # once
                unanswered.append(pending)
            else:
                reason = (
                    "no answer from Redis in time" if timed_out else f"Redis went away: {error}"
                )
                _fail(pending, StoreTimeout(reason))
        self._outbox[:0] = unanswered
        if self._outbox:
            self._wake.set()
        self._spawn(_hang_up(connection))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # asyncio keeps only a weak reference to a task.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Wait for what is on its way, then hang up."""
        waiting = [pending.future for pending in (*self._sent, *self._outbox)]
        if waiting:
            await asyncio.wait(waiting)
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await _hang_up(self._connection)
            self._connection = None


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)


async def _hang_up(connection: AbstractConnection) -> None:
    # Closed politely, a connection to a store that hangs would keep the writer waiting until
    # that store takes the rest, and then have calls run whose callers were told of a failure.
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
    try:
        await connection.disconnect(nowait=True)
    except (RedisError, OSError):
        return  # it is going away in any case
