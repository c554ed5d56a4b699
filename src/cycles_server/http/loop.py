"""The event loop of a server process."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

_ACCEPTED_AT_ONCE = 32


class ServingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, which takes a bounded number of new connections a turn.

    asyncio uses one number for two things: how many connections the system lets wait, which
    should be many, and how many are taken in one go, which should be few: whoever is connected
    already waits meanwhile.
    """

    async def create_server(  # type: ignore[override]
        self, *args: Any, sock: socket.socket, backlog: int, **options: Any
    ) -> asyncio.Server:
        server = await super().create_server(*args, sock=sock, backlog=_ACCEPTED_AT_ONCE, **options)
        sock.listen(backlog)
        return server
