"""One request and the answer it gets, as every layer sees it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cycles_server.auth.confirmation import Confirmation
from cycles_server.http.problems import Headers, Problem, error_body
from cycles_server.http.tracing import fresh_id, trace_of

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

    from cycles_server.auth.principal import Principal

EXTENSION = "cycles"
"""Under this name the exchange travels in the ASGI scope's ``extensions``."""

READS = ("GET", "HEAD")
"""The methods of a page beside the contract."""


class Reply:
    """A status, a JSON body (or one already written, of any media type; or none), and headers of
    its own."""

    __slots__ = ("body", "headers", "media_type", "raw", "status")

    def __init__(
        self,
        status: int,
        body: Any = None,
        *,
        headers: Headers = (),
        raw: bytes | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.raw = raw
        self.media_type = media_type

    @property
    def is_empty(self) -> bool:
        """Whether it has no body at all: no answer is JSON's ``null``."""
        return self.body is None and self.raw is None


class Exchange:
    """One request: its ids, headers, validated input, caller, and in the end its reply.

    ``body`` and ``query`` hold what was sent: schema defaults are not filled in. ``operation_id``
    is empty where no operation was found.
    """

    __slots__ = (
        "_raw_body",
        "body",
        "client",
        "confirmation",
        "headers",
        "method",
        "operation_id",
        "path",
        "path_params",
        "principal",
        "query",
        "query_string",
        "reply",
        "request_id",
        "route",
        "started",
        "tenant",
        "trace_id",
    )

    def __init__(self, scope: Scope) -> None:
        self.started = time.perf_counter()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        client = scope.get("client")
        self.client: str = client[0] if client else ""
        headers: dict[bytes, bytes] = {}
        repeated: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in headers:
                repeated.setdefault(name, [headers[name]]).append(value)
            else:
                headers[name] = value
        for name, values in repeated.items():
            headers[name] = b", ".join(values)
        self.headers = headers
        self.request_id = fresh_id()
        self.trace_id = trace_of(self.header(b"traceparent"), self.header(b"x-cycles-trace-id"))
        self.route = "UNKNOWN"
        self.operation_id = ""
        self.path_params: dict[str, str] = {}
        self.query: dict[str, Any] = {}
        self.body: Any = None
        self._raw_body: bytes | None = None
        self.principal: Principal | None = None
        self.confirmation = Confirmation()
        self.tenant: str | None = None
        self.reply: Reply | None = None

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name, without blanks around it (RFC 9110, 5.5);
        UTF-8 where it is, else Latin-1."""
        value = self.headers.get(name)
        if value is None:
            return None
        value = value.strip(b" \t")
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")

    @property
    def caller(self) -> Principal:
        """The authenticated caller of an operation that needs one."""
        if self.principal is None:
            raise RuntimeError("this operation is public: it has no caller")
        return self.principal

    async def read_body(self, receive: Receive, limit: int) -> bytes:
        """The whole body, once.

        Raises:
            Problem: 413 above ``limit`` bytes, 400 for one that breaks off.
        """
        if self._raw_body is not None:
            return self._raw_body
        length = self.header(b"content-length")
        if length is not None and length.isascii() and length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise _broken_off(message)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            chunks = [body]
            size = len(body)
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _broken_off(message)
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
            body = b"".join(chunks)
        if len(body) > limit:
            raise _too_large(limit)
        self._raw_body = body
        return body

    @property
    def ids(self) -> dict[str, str]:
        """What a log line about this exchange carries."""
        return {"request_id": self.request_id, "trace_id": self.trace_id}

    def error_reply(self, problem: Problem) -> Reply:
        """The contract's ErrorResponse for a problem."""
        body = error_body(problem, self.request_id, self.trace_id)
        return Reply(problem.status, body, headers=problem.headers)


def _too_large(limit: int) -> Problem:
    return Problem(
        "INVALID_REQUEST",
        f"The request body is larger than {limit} bytes",
        status=413,
        headers=(("connection", "close"),),
    )


def _broken_off(message: Message) -> Problem:
    # What has come may look complete; the client never said that it is.
    why = message.get("reason") or "the connection ended inside it"
    return Problem("INVALID_REQUEST", f"body: {why}")


def exchange_of(scope: Mapping[str, Any]) -> Exchange:
    """The exchange that travels in an ASGI scope."""
    exchange: Exchange = scope["extensions"][EXTENSION]
    return exchange


def header_lines(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
