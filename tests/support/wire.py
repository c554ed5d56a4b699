"""HTTP spoken by hand: a client that can hang up, send half a request, or go on after a fault."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ANSWER_SECONDS = 20
"""More than any answer here may take; whoever waits longer waits for ever."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers by lower-case name, a JSON body, and how long it took to come."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float

    @property
    def store_away(self) -> bool:
        """Whether it is what a client gets while the store cannot work."""
        error = isinstance(self.body, dict) and self.body.get("error")
        return self.status == 500 and error == "INTERNAL_ERROR" and "retry-after" in self.headers


def request_bytes(
    method: str, path: str, body: Any = None, *, key: str = "", admin: str = ""
) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(content)}"]
    if body is not None:
        lines.append("Content-Type: application/json")
    if key:
        lines.append(f"X-Cycles-API-Key: {key}")
    if admin:
        lines.append(f"X-Admin-API-Key: {admin}")
    return "\r\n".join([*lines, "", ""]).encode() + content


class Wire:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, *, read_ahead: int = 2**16) -> Wire:
        """``read_ahead``: how many bytes are taken from the server before they are asked for."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=read_ahead))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def sent(self) -> None:
        """Wait until the server has taken most of it. Raises: OSError if it never will."""
        await self._writer.drain()

    def end_sending(self) -> None:
        """Half-close: nothing more is sent, answers are still read."""
        self._writer.write_eof()

    async def answer(self, since: float | None = None) -> Answer:
        """The next answer. Raises: OSError or EOFError if the connection ends before it."""
        start = time.perf_counter() if since is None else since
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            content = await self._reader.readexactly(int(headers["content-length"]))
        seconds = time.perf_counter() - start
        if headers.get("content-type") == "application/json":
            return Answer(int(first.split()[1]), headers, json.loads(content), seconds)
        return Answer(int(first.split()[1]), headers, content.decode(), seconds)

    async def call(self, method: str, path: str, body: Any = None, **keys: str) -> Answer:
        start = time.perf_counter()
        self.send(request_bytes(method, path, body, **keys))
        return await self.answer(start)

    async def closed(self) -> bool:
        """Wait until the server has closed the connection; True if it said nothing more."""
        async with asyncio.timeout(ANSWER_SECONDS):
            try:
                return not await self._reader.read()
            except ConnectionError:
                return True

    def reset(self) -> None:
        """Hang up the hard way: the server gets a reset, unread answers are lost."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()

    def __del__(self) -> None:
        # At once where nobody holds it any more, and before the loop is over.
        self.close()


async def call_once(port: int, method: str, path: str, body: Any = None, **keys: str) -> Answer:
    """One request over a connection of its own."""
    wire = await Wire.open(port)
    try:
        return await wire.call(method, path, body, **keys)
    finally:
        wire.close()


def eventually(condition: Callable[[], Any], within: float = 60) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {within} s"
        time.sleep(0.02)
