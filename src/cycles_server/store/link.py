"""One open connection to Redis, and the calls that wait for its replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from cycles_server.store.scripts import Script

Argument = str | bytes | int
Reply = Any


def pack(arguments: tuple[Argument, ...]) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


# Declares that it writes, as every script does without a flag, and touches nothing: a node that
# takes no writes refuses it before it runs. Unlike ROLE it needs no permission beyond the calls'.
_QUESTION = pack(("EVAL", "#!lua\nreturn 1", 0))


class Pending:
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

    @classmethod
    def question(cls, deadline: float) -> Pending:
        """Does the node take writes? Nobody waits for it: the reader sees the refusal."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return cls(_QUESTION, future, deadline, script=None, replay_safe=False)

    def fail(self, error: Exception) -> None:
        """Tell who waits, if anybody still does."""
        if not self.future.done():
            self.future.set_exception(error)


class Link:
    """An open connection and what it owes.

    Attributes:
        sent: the calls whose replies are still to come, in their order.
        opened_at: when, on the loop's clock.
        ask_at: when to ask next whether it leads to a node that takes writes.
        unfit: it does not.
    """

    __slots__ = ("ask_at", "connection", "opened_at", "sent", "unfit")

    def __init__(self, connection: AbstractConnection, now: float) -> None:
        self.connection = connection
        self.sent: deque[Pending] = deque()
        self.opened_at = now
        self.ask_at = now
        self.unfit = False


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection at once, with whatever it has not sent yet."""
    # Closed politely, a connection to a store that hangs would keep the writer waiting until
    # that store takes the rest, and then have calls run whose callers were told of a failure.
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
    try:
        await connection.disconnect(nowait=True)
    except (RedisError, OSError):
        return  # it is going away in any case
