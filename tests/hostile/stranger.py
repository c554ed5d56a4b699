"""One connection of a client that keeps to no rule, and what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SMALL_BUFFER_BYTES = 4096
LIVENESS = "/actuator/health/liveness"
CLOSE = b"Connection: close"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and what a stranger knows of it.

    Attributes:
        api_key: of a tenant without budgets.
        pause_s: between two drops of a client that drips.
        patience_s: for an answer, or for the end of the connection; longer than any limit of the
            server.
    """

    port: int
    api_key: str
    admin_key: str
    pause_s: float = 0.2
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; headers by lower-case name."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


class Stranger:
    """A connection that sends what it is told to, until the server takes no more."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._patience_s = patience_s

    @classmethod
    async def open(cls, target: Target, *, small: bool = False) -> Stranger:
        """``small``: as little as possible is taken of an answer before it is read.

        Raises: OSError.
        """
        connection = socket.socket()
        connection.setblocking(False)
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        try:
            address = ("127.0.0.1", target.port)
            await asyncio.get_running_loop().sock_connect(connection, address)
            limit = SMALL_BUFFER_BYTES if small else 2**16
            streams = await asyncio.open_connection(sock=connection, limit=limit)
        except BaseException:
            connection.close()
            raise
        return cls(*streams, target.patience_s)

    async def say(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send the pieces, with a pause between two, for as long as they are taken."""
        with contextlib.suppress(OSError):
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(pause_s)
                self._writer.write(piece)
                async with asyncio.timeout(self._patience_s):
                    await self._writer.drain()

    def end_sending(self) -> None:
        """Half-close: nothing more is sent, answers are still read."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def reply(self, method: str = "GET") -> Reply:
        """The next answer. Raises: OSError or EOFError where the connection ends before it, and
        TimeoutError where neither comes."""
        async with asyncio.timeout(self._patience_s):
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                status = int(first.split()[1])
                if status >= 200:
                    break
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            length = 0 if method == "HEAD" else int(headers["content-length"])
            return Reply(status, headers, await self._reader.readexactly(length))

    async def replies(self, methods: Iterable[str]) -> list[Reply]:
        """The answers to requests with these methods, or those before the connection ends."""
        told = []
        with contextlib.suppress(ConnectionError, EOFError):
            for method in methods:
                told.append(await self.reply(method))
        return told

    async def rest(self) -> list[Reply]:
        """All answers until the server ends the connection. Raises: TimeoutError if it does not."""
        told = []
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                told.append(await self.reply())
        return told

    async def rest_while_saying(self, *pieces: bytes, pause_s: float) -> list[Reply]:
        """The same, while the pieces drip."""
        saying = asyncio.create_task(self.say(*pieces, pause_s=pause_s))
        try:
            return await self.rest()
        finally:
            saying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saying

    def reset(self) -> None:
        """Hang up the hard way: the server gets a reset."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Hang up, whatever is still to be sent."""
        self._writer.transport.abort()


def request(method: str, path: str, *lines: bytes, body: bytes | None = None) -> bytes:
    """A request as bytes; with a body, its length too."""
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: test", *lines]
    if body is not None:
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body or b""])


def chunked(path: str, *lines: bytes, body: bytes) -> bytes:
    """A POST whose body comes as it is given, said to be chunks."""
    kind = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    return request("POST", path, *lines, *kind) + body


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]
