"""One request of a connection and its answer, as ASGI's ``receive`` and ``send``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from cycles_server.http.framing import RequestHead

if TYPE_CHECKING:
    from starlette.types import Message, Scope

HIGH_WATER_BYTES = 65_536
"""So much of a body is taken before somebody reads it, and so much of an answer is written before
the client does."""

_CLOSE = (b"connection", b"close")


class Line(Protocol):
    """The connection, as a turn sees it."""

    def write(self, data: bytes) -> None:
        """Hand over to the transport, unless the client is gone."""

    @property
    def full(self) -> bool:
        """Whether the client must read before more is written."""

    async def drained(self) -> None:
        """Wait until it has."""

    def body_wanted(self) -> None:
        """Somebody waits for the rest of the body."""

    def common_headers(self) -> bytes:
        """Header lines of every answer."""

    def turn_ended(self, turn: Turn) -> None:
        """The answer is written."""


class Turn:
    """A request and its answer.

    Attributes:
        complete: whether nothing more of it comes: it is whole, or ``broken``.
        keep_alive: whether the connection may go on behind the answer.
        answered: whether an answer has been begun, by whomever.
        gone: whether nobody will get one from the application.
        unread: bytes of the body that nobody has asked for yet.
        discarded: bytes of the body that came behind the answer.
    """

    __slots__ = (
        "_line",
        "_parts",
        "_start",
        "_wants_continue",
        "_woken",
        "answered",
        "broken",
        "complete",
        "discarded",
        "gone",
        "keep_alive",
        "scope",
        "unread",
    )

    def __init__(self, line: Line, head: RequestHead, scope: Scope) -> None:
        self._line = line
        self.scope = scope
        self.keep_alive = head.keep_alive
        self._wants_continue = head.wants_continue
        self._parts: list[bytes] = []
        self.unread = 0
        self._start: Message | None = None
        self._woken: asyncio.Future[None] | None = None
        self.complete = False
        self.broken = ""
        self.answered = False
        self.gone = False
        self.discarded = 0

    # -- from the connection -------------------------------------------------------------------

    def body_read(self, data: bytes) -> None:
        if self.answered:
            self.discarded += len(data)
            return
        self._parts.append(data)
        self.unread += len(data)
        self._wake()

    def request_read(self) -> None:
        self.complete = True
        self._wake()

    def break_off(self, why: str) -> None:
        """There will be no more of the body, and what has come is not all. The application still
        answers: whether a request is broken never depends on how fast it was looked at."""
        self.broken = why
        self.keep_alive = False
        self.request_read()

    def abandon(self) -> None:
        """Nobody waits for the application's answer any more."""
        self.gone = True
        self._wake()

    @property
    def _ready(self) -> bool:
        return bool(self._parts) or self.complete or self.gone

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- from the application ------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI's receive: the body in one or several pieces."""
        if self._wants_continue:
            self._wants_continue = False
            if not self._ready:
                self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._ready:
            self._line.body_wanted()
            if not self._ready:
                self._woken = asyncio.get_running_loop().create_future()
                await self._woken
        if self.gone or self.answered or self.broken:
            return {"type": "http.disconnect", "reason": self.broken}
        body, self._parts, self.unread = b"".join(self._parts), [], 0
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """ASGI's send. An answer's body comes in one message; its length is in its headers."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start = self._start
        if start is None or message.get("more_body"):
            raise RuntimeError("an answer is one start and one body")
        if self.answered or self.gone:
            return
        self.answered = True
        headers = start["headers"]
        if _CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers = [*headers, _CLOSE]
        lines = [STATUS_LINE[start["status"]], self._line.common_headers()]
        lines += [b"%b: %b\r\n" % pair for pair in headers]
        lines.append(b"\r\n")
        body: bytes = message.get("body", b"")
        if len(body) <= HIGH_WATER_BYTES:
            lines.append(body)
            self._line.write(b"".join(lines))
            if self._line.full:
                await self._line.drained()
        else:
            self._line.write(b"".join(lines))
            await self._write_in_pieces(body)
        self._line.turn_ended(self)

    async def _write_in_pieces(self, body: bytes) -> None:
        """However many clients read slowly, each costs one piece and not one answer."""
        view = memoryview(body)
        for start in range(0, len(body), HIGH_WATER_BYTES):
            if self.gone:
                return
            self._line.write(bytes(view[start : start + HIGH_WATER_BYTES]))
            await self._line.drained()
