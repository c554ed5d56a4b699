"""One client connection: how it ends when the server stops, and when it speaks no HTTP."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cycles_server.http.json import write_json
from cycles_server.http.tracing import fresh_id


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, but a request that was only half sent does not hold up the stop, and
    one that is no HTTP is answered in the contract's error shape."""

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
