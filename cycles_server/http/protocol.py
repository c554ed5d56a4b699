"""One client connection: answers in one write, and how it ends when the server stops or when it
speaks no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cycles_server.http.json import write_json
from cycles_server.http.tracing import fresh_id

_HEAD, _INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"


class _JoinedWrites:
    """A transport that sends an answer's head together with its body.

    uvicorn writes the two apart, and each would be a system call of its own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that no body followed."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, but a request that was only half sent does not hold up the stop, and
    one that is no HTTP is answered in the contract's error shape."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._joined = _JoinedWrites(transport)
        self.transport = cast(asyncio.Transport, self._joined)

    def on_response_complete(self) -> None:
        self._joined.flush()  # an answer to HEAD has no body
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close now if no answer is due, else after the one that is."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and cycle.more_body:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """No application is asked here: a malformed line, an unknown method, a bad header."""
        request_id, trace_id = fresh_id(), fresh_id()
        body = write_json(
            {
                "error": "INVALID_REQUEST",
                "message": msg,
                "request_id": request_id,
                "trace_id": trace_id,
            }
        )
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nx-cycles-trace-id: {trace_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[400] + head.encode() + body)
        self.transport.close()
