"""One client connection: reads requests, has them answered in turn, and ends when it should.

What a client may take its time for has a limit each: to send a head, to send a body, to think
between two requests, to read an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from cycles_server.http.cors import Cors
from cycles_server.http.crowd import Crowd
from cycles_server.http.deadline import Deadline
from cycles_server.http.framing import (
    SLICE_BYTES,
    HeadLimits,
    Rejection,
    RequestHead,
    RequestReader,
)
from cycles_server.http.problems import Problem, error_body
from cycles_server.http.tracing import fresh_id
from cycles_server.http.turn import HIGH_WATER_BYTES, Turn
from cycles_server.jsontext import write_json

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

_LINGER_S = 5.0
"""So long a client that is still sending may take to read why it should not."""

# What the loop reads into. One serves all connections: the bytes are gone when the call is over.
_INPUT = memoryview(bytearray(65_536))


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may take: bytes of a head and of an unwanted body, and seconds.

    Attributes:
        most: connections of one worker.
        newcomers: how many more are let in before they had a moment to say what they want.
        head_s: from a head's first byte (or from connecting) to its last.
        body_s: from a head's last byte to the body's last.
        idle_s: between an answer and the next request.
        write_s: for the client to read 64 KiB of an answer.
    """

    head: HeadLimits
    body_bytes: int
    most: int
    newcomers: int
    head_s: float
    body_s: float
    idle_s: float
    write_s: float


class _State(Enum):
    """What a connection waits for."""

    NEW = auto()  # the first byte of all
    IDLE = auto()  # the first byte of the next request
    HEAD = auto()
    BODY = auto()
    SERVER = auto()  # an answer
    READER = auto()  # the client, to read an answer
    END = auto()  # the client, to see that this is the end


class Connection(asyncio.BufferedProtocol):
    """The protocol of uvicorn's server sockets (its ``http`` setting)."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: ConnectionLimits,
        crowd: Crowd,
        common: _CommonHeaders,
        cors: Cors | None,
    ) -> None:
        self._app = config.loaded_app
        self._server_state = server_state
        self._app_state = app_state
        self._limits = limits
        self._crowd = crowd
        self._common = common
        self._cors = cors
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(limits.head, self)
        self._turns: deque[Turn] = deque()  # not answered yet, the first one being served
        self._reading: Turn | None = None  # whose body is being read
        self._unfed = b""
        self._refusal: Rejection | None = None
        self._paused = self._ended = self._eof = self._stopping = self._holding = False
        self._writable: asyncio.Future[None] | None = None
        self._state = _State.END
        self._begun = self._since = 0  # requests, and of how many when the state began
        self._deadline = Deadline(self._loop, self._too_late)

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server = get_local_addr(self._transport)
        self._client = get_remote_addr(self._transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._wait(_State.NEW, self._limits.head_s)
        self._crowd.join(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._server_state.connections.discard(self)
        self._crowd.leave(self)
        self._deadline.end()
        for turn in self._turns:
            turn.abandon()
        self._turns.clear()
        self._reading, self._unfed = None, b""
        self._reader.end()
        self.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _INPUT

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended or self._stopping:
            return
        data = _INPUT[:nbytes]
        if self._unfed or self._blocked:
            self._unfed += bytes(data)
        else:
            self._feed(data)
        self._settle()

    def eof_received(self) -> bool:
        """The client sends no more; it may still read (TCP's half-close)."""
        self._eof = True
        if self._ended:
            return False
        if not self._unfed:
            self._break_off()
        return not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        self._crowd.wait_for_client(self)
        self._wait(_State.READER, self._write_s)

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is None:
            return
        writable.set_result(None)
        if not self._ended:
            if self._turns and self._turns[0].complete:
                self._crowd.serve(self)
            self._mind_the_time()

    def shutdown(self) -> None:
        """Told by uvicorn to end: now if no complete request waits, else behind its answer."""
        self._stopping = True
        if self._state is _State.READER or (self._ended and self._transport.is_closing()):
            self._wait(_State.READER, self._write_s)
        complete = [turn for turn in self._turns if turn.complete]
        if complete:
            complete[-1].keep_alive = False
        elif not self._ended:
            self._close()

    # -- reading ---------------------------------------------------------------------------------

    @property
    def _blocked(self) -> bool:
        """Whether what else has come must wait as it is."""
        turns = self._turns
        if not turns:
            return False
        return turns[0].complete or turns[0].unread > HIGH_WATER_BYTES

    def _feed(self, data: memoryview) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self._ended or self._refusal is not None:
                return
            if self._blocked:
                self._unfed = bytes(data[start:])
                return
            try:
                self._reader.feed(data[start : start + SLICE_BYTES])
            except Rejection as refusal:
                self._refuse(refusal)

    def _settle(self) -> None:
        """After bytes, or an answer: read on or not, and mind the time."""
        if self._ended:
            return
        while self._unfed and not (self._blocked or self._ended or self._stopping):
            data, self._unfed = self._unfed, b""
            self._feed(memoryview(data))
        if self._ended:
            return
        if self._eof and not self._unfed:
            self._break_off()
        wanted = not self._unfed and self._refusal is None
        if wanted == self._paused and not self._eof:
            self._paused = not wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        if self._writable is None and not self._ended:
            self._mind_the_time()

    def _mind_the_time(self) -> None:
        if self._turns and self._turns[0].complete:
            self._wait(_State.SERVER)
        elif self._reading is not None:
            self._wait(_State.BODY, self._limits.body_s)
        elif self._reader.in_head:
            self._wait(_State.HEAD, self._limits.head_s)
        elif self._begun:
            self._wait(_State.IDLE, self._limits.idle_s)

    def _break_off(self) -> None:
        """Nothing more comes, and all that came has been read."""
        if not self._reader.between_requests:
            self._refuse(Rejection(400, "The connection ended inside the request"))
        elif not self._turns:
            self._close()

    def _refuse(self, refusal: Rejection) -> None:
        """Answer what came before, then this, then end."""
        if self._turns and not self._turns[-1].keep_alive and self._turns[-1].complete:
            return  # behind a request that said it is the last one, nothing is read
        if self._refusal is None:
            self._refusal = refusal
            self._unfed = b""
        broken, self._reading = self._reading, None
        if broken is None:
            if not self._turns:
                self._write_refusal()
        elif broken.answered and broken not in self._turns:
            self._end()
        elif refusal.status == 408 and not broken.answered:
            # The application may be waiting for what does not come.
            broken.abandon()
            self._turns.pop()
            if not self._turns:
                self._write_refusal()
        else:
            broken.break_off(refusal.message)

    def _write_refusal(self) -> None:
        refusal = self._refusal
        assert refusal is not None
        problem = Problem("INVALID_REQUEST", refusal.message, status=refusal.status)
        request_id, trace_id = fresh_id(), fresh_id()
        body = write_json(error_body(problem, request_id, trace_id))
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nx-cycles-trace-id: {trace_id}\r\n"
            "connection: close\r\n\r\n"
        )
        common = self.common_headers()
        if self._cors is not None:
            common += _header_bytes(self._cors.headers(self._reader.header(b"origin")))
        self.write(STATUS_LINE[refusal.status] + common + head.encode() + body)
        self._end()

    # -- RequestSink -----------------------------------------------------------------------------

    def head_begun(self) -> None:
        self._begun += 1

    def head_read(self, head: RequestHead) -> None:
        turn = Turn(
            self,
            head,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": head.version,
                "server": self._server,
                "client": self._client,
                "scheme": "http",
                "root_path": "",
                "headers": head.headers,
                "state": self._app_state.copy(),
                "method": head.method,
                "path": head.path,
                "raw_path": head.raw_path,
                "query_string": head.query,
            },
        )
        self._reading = turn
        self._turns.append(turn)
        if len(self._turns) == 1:
            self._admit(turn)

    def body_read(self, data: bytes) -> None:
        turn = self._reading
        if turn is None:
            return
        turn.body_read(data)
        if turn.discarded > self._limits.body_bytes:
            self._end()

    def request_read(self) -> None:
        turn, self._reading = self._reading, None
        if turn is None:
            return
        turn.request_read()
        if self._turns and turn is self._turns[0] and not self._holding:
            self._crowd.serve(self)

    # -- answering -------------------------------------------------------------------------------

    def _admit(self, turn: Turn) -> None:
        if self._crowd.has_room(turn.scope["path"]):
            self._begin(turn)
        else:
            self._holding = True
            self._crowd.hold(self)

    def room_made(self) -> None:
        """The crowd lets the first request begin."""
        self._holding = False
        if self._turns:
            self._begin(self._turns[0])

    def make_room(self) -> None:
        """The crowd is too large, and this client has kept it waiting longest."""
        if self._state is _State.READER:
            self._transport.abort()
        else:
            self._close()

    def _begin(self, turn: Turn) -> None:
        if turn.complete:
            self._crowd.serve(self)
        else:
            self._crowd.wait_for_client(self)
        task = self._loop.create_task(self._answer(turn))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _answer(self, turn: Turn) -> None:
        try:
            await self._app(turn.scope, turn.receive, turn.send)
        except Exception:
            logger.exception("%s failed", turn.scope["path"])
        if not turn.answered and not turn.gone:
            logger.error("%s has no answer", turn.scope["path"])
            self._transport.abort()

    def write(self, data: bytes) -> None:
        if not (self._ended or self._transport.is_closing()):
            self._transport.write(data)

    @property
    def full(self) -> bool:
        return self._writable is not None

    async def drained(self) -> None:
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def body_wanted(self) -> None:
        if self._unfed or self._paused:
            self._settle()

    def common_headers(self) -> bytes:
        return self._common.lines(self._server_state.default_headers)

    def turn_ended(self, turn: Turn) -> None:
        if not self._turns or self._turns[0] is not turn:
            return
        self._turns.popleft()
        self._server_state.total_requests += 1
        self._crowd.wait_for_client(self)
        if not turn.keep_alive or (self._stopping and not self._turns):
            self._end()
        elif self._turns:
            self._admit(self._turns[0])
        elif self._refusal is not None:
            self._write_refusal()
        self._settle()

    # -- ending ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Nothing more is said. A client that is still sending gets a moment to read what was:
        closed at once, the connection would be reset, and the answer lost with it."""
        if self._ended:
            return
        if self._eof or (self._reading is None and self._refusal is None and not self._unfed):
            self._close()
            return
        self._ended = True
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._wait(_State.END, _LINGER_S)

    def _close(self) -> None:
        self._ended = True
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._wait(_State.END, self._write_s)

    @property
    def _write_s(self) -> float:
        # A stop is not held up by who does not read.
        return min(self._limits.write_s, _LINGER_S) if self._stopping else self._limits.write_s

    # -- time ------------------------------------------------------------------------------------

    def _wait(self, state: _State, seconds: float | None = None) -> None:
        """Now it waits for this; from when on, does not change while it does."""
        if state is self._state and self._since == self._begun and state is not _State.READER:
            return
        self._state, self._since = state, self._begun
        if seconds is None:
            self._deadline.clear()
        else:
            self._deadline.set(seconds)

    def _too_late(self) -> None:
        if self._state is _State.HEAD:
            self._refuse(Rejection(408, "The head of the request took too long to arrive"))
        elif self._state is _State.BODY:
            self._refuse(Rejection(408, "The body of the request took too long to arrive"))
        elif self._state in (_State.READER, _State.END):
            self._transport.abort()
        else:
            self._close()


def _header_bytes(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


class _CommonHeaders:
    """The header lines of every answer, which uvicorn makes anew each second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._headers:
            self._headers = headers
            self._lines = _header_bytes(headers)
        return self._lines


class Connections:
    """Makes the connections of a server; uvicorn calls it for each.

    Args:
        cors: which page of another origin may read why its request was none; None for none.
    """

    def __init__(self, limits: ConnectionLimits, cors: Cors | None = None) -> None:
        self._limits = limits
        self._cors = cors
        self._crowd: Crowd | None = None
        self._common = _CommonHeaders()

    def __call__(
        self,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        if self._crowd is None:  # in the worker, behind the fork
            self._crowd = Crowd(self._limits.most, self._limits.newcomers)
        return Connection(
            config,
            server_state,
            app_state,
            limits=self._limits,
            crowd=self._crowd,
            common=self._common,
            cors=self._cors,
        )
