"""One connection to Redis, shared by every request of this process.

The commands of one turn of the event loop go out in a single write and the replies come back in
order. The connection itself (address, TLS, authentication, RESP parsing) is redis-py's; what is
added here is only who waits for which reply, and until when.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from cycles_server.store.errors import StoreTimeout, StoreUnavailable
from cycles_server.store.link import Argument, Link, Pending, Reply, hang_up, pack
from cycles_server.store.replies import ERROR_REPLIES, is_elsewhere, store_error
from cycles_server.store.scripts import Script

ASK_AGAIN_S = 1.0
"""After so many seconds the node behind a connection in use is asked again whether it takes
writes. None younger is left, so a store that takes none at all sees one new connection a second."""


class SharedConnection:
    """Commands of many tasks over one connection, each with a deadline.

    Three outcomes: a reply; *not run* (:class:`StoreUnavailable`, :class:`StoreRefused`);
    *unknown* (:class:`StoreTimeout`). A command that was sent is sent again by itself only if
    Redis says that it did not run (``NOSCRIPT``), or if it is marked replay-safe.

    The address may follow the master, while open connections end where they always did. So a
    connection whose node takes no writes is left for a new one, once it is a second old; what was
    sent over it is still answered from it. Because reads alone would never tell, a connection in
    use is asked every second.
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
        self._link: Link | None = None  # what is sent goes over this one
        self._links: set[Link] = set()  # with those that were left and still owe replies
        self._outbox: list[Pending] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    # -- commands ----------------------------------------------------------------------------

    def command(self, *arguments: Argument, replay_safe: bool = False) -> asyncio.Future[Reply]:
        """Queue a command; await the result for its reply (bytes undecoded)."""
        return self._submit(pack(arguments), None, replay_safe)

    def evaluate(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> asyncio.Future[Reply]:
        """Queue a script call by its hash; the source is sent if Redis does not know it."""
        tail = (len(keys), *keys, *arguments)
        packed = pack(("EVALSHA", script.sha, *tail))
        return self._submit(packed, (script, tail), replay_safe=False)

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
        pending = Pending(packed, future, loop.time() + self._timeout, script, replay_safe)
        self._outbox.append(pending)
        self._wake.set()
        if self._writer is None or self._writer.done():
            self._writer = self._spawn(self._write_forever())
        if self._watch is None:
            self._watch = loop.call_at(pending.deadline, self._check_deadlines)
        return future

    # -- the two directions --------------------------------------------------------------------

    async def _write_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._outbox:
                continue
            link = self._link
            if link is not None and link.unfit and link.opened_at + ASK_AGAIN_S <= loop.time():
                self._leave(link)
                link = None
            if link is None:
                link = await self._connect()
                if link is None:
                    continue
            batch, self._outbox = self._outbox, []
            if batch and link.ask_at <= loop.time():
                batch.insert(0, Pending.question(batch[0].deadline))
                link.ask_at = loop.time() + ASK_AGAIN_S
            link.sent.extend(batch)
            try:
                await link.connection.send_packed_command(
                    [pending.command for pending in batch], check_health=False
                )
            except (RedisError, OSError) as error:
                self._lost(link, error)

    async def _connect(self) -> Link | None:
        connection: AbstractConnection = self._factory.make_connection()  # type: ignore[no-untyped-call]
        try:
            # Half of what a call may wait: whoever comes during an attempt that fails for
            # want of an answer has time for another one.
            # Not wait_for(): in Python 3.11 it may swallow that this task is cancelled.
            async with asyncio.timeout(self._timeout / 2):
                await connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            await hang_up(connection)
            if self._outbox:  # each until its own deadline
                self._wake.set()
            return None
        except (RedisError, OSError) as error:
            waiting, self._outbox = self._outbox, []
            for pending in waiting:
                pending.fail(StoreUnavailable(f"cannot connect to Redis: {error}"))
            return None
        link = Link(connection, asyncio.get_running_loop().time())
        self._link = link
        self._links.add(link)
        self._spawn(self._read_forever(link))
        return link

    async def _read_forever(self, link: Link) -> None:
        sent = link.sent
        while True:
            try:
                reply = await link.connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except ERROR_REPLIES as error:
                link.unfit = link.unfit or is_elsewhere(error)
                if sent:
                    self._answer_error(sent.popleft(), error)
            except (RedisError, OSError) as error:
                self._lost(link, error)
                return
            else:
                if not sent:  # a reply nobody asked for: the two ends no longer agree
                    self._lost(link, ConnectionError("unexpected reply"))
                    return
                future = sent.popleft().future
                if not future.done():
                    future.set_result(reply)
            if not sent and link is not self._link:  # left, and owes nothing any more
                self._forget(link)
                return

    def _answer_error(self, pending: Pending, error: RedisError) -> None:
        if pending.future.done():
            return  # nobody waits for it any more
        if isinstance(error, NoScriptError) and pending.script is not None:
            # A restarted or failed-over node knows no scripts; the call has not run. EVAL
            # carries the source and leaves it loaded for the next one.
            script, tail = pending.script
            pending.command = pack(("EVAL", script.source, *tail))
            pending.script = None
            self._outbox.append(pending)
            self._wake.set()
            return
        pending.fail(store_error(error))

    def _leave(self, link: Link) -> None:
        """Send nothing more over it; it is closed once it owes no reply."""
        self._link = None
        if not link.sent:
            self._forget(link)

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        self._spawn(hang_up(link.connection))

    # -- failures --------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        self._watch = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for link in list(self._links):
            if link.sent and link.sent[0].deadline <= now:
                # Replies come in order, so everything behind the late one is late too.
                self._lost(link, TimeoutError())
        while self._outbox and self._outbox[0].deadline <= now:
            late = self._outbox.pop(0)
            late.fail(StoreUnavailable("Redis did not take the call in time"))
        queues = (self._outbox, *(link.sent for link in self._links))
        heads = [queue[0].deadline for queue in queues if queue]
        if heads:
            self._watch = loop.call_at(min(heads), self._check_deadlines)

    def _lost(self, link: Link, error: BaseException) -> None:
        if link not in self._links:
            return
        if self._link is link:
            self._link = None
        unanswered = []
        timed_out = isinstance(error, TimeoutError)
        for pending in link.sent:
            if pending.replay_safe and not timed_out:
                pending.replay_safe = False  # once
                unanswered.append(pending)
            else:
                reason = (
                    "no answer from Redis in time" if timed_out else f"Redis went away: {error}"
                )
                pending.fail(StoreTimeout(reason))
        link.sent.clear()
        self._outbox[:0] = unanswered
        if self._outbox:
            self._wake.set()
        self._forget(link)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # asyncio keeps only a weak reference to a task.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Wait for what is on its way, then hang up."""
        queues = (self._outbox, *(link.sent for link in self._links))
        waiting = [pending.future for queue in queues for pending in queue]
        if waiting:
            await asyncio.wait(waiting)
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links:
            await hang_up(link.connection)
        self._links.clear()
        self._link = None
