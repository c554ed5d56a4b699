"""From bytes to requests: the one place that decides what is a request.

httptools (Node's llhttp) reads the bytes. What it lets pass and this server does not, or reads in
a way that another reader would not, is refused or set right here; nothing behind sees any of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

Headers = list[tuple[bytes, bytes]]

SLICE_BYTES = 2_048
"""No more than this is read in one piece: of many small requests in one segment, those behind
the first wait as bytes, not as objects. The smallest takes 26 bytes, and each that is read costs
as much as a whole slice; a megabyte in slices of this size costs a fifth of a millisecond."""

# A name, an address or nothing, and a port (RFC 9110, 7.2; RFC 3986, 3.2.2).
_HOST = re.compile(rb"(\[[0-9A-Za-z:.%~_-]*\]|[0-9A-Za-z._~!$&'()*+;=%-]*)(:[0-9]*)?")
# Where these stand twice, two readers of one request would see two requests.
_SINGLE = (b"host", b"content-length", b"transfer-encoding")
# The parser would end the connection for them, when the request has been taken and its answer has
# said that another may follow. (Other fields that frame a request it refuses by itself.)
_HEADS_ONLY = (b"connection", b"proxy-connection")
_KNOWN_VERSIONS = ("1.0", "1.1")


class Rejection(Exception):
    """Bytes that are no request this server takes; the connection ends with the answer.

    Args:
        status: 400, 408 or 431.
        message: for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on a request before its body.

    Attributes:
        target_bytes: path and query.
        bytes: path, query, names and values of header lines together.
        lines: number of header lines.
    """

    target_bytes: int
    bytes: int
    lines: int


@dataclass(slots=True)
class RequestHead:
    """What a request says before its body.

    Attributes:
        path: decoded; ``raw_path`` is as it was sent.
        headers: names in lower case, values without blanks around them.
        keep_alive: whether the client lets the connection go on after the answer.
        wants_continue: whether the client waits for ``100 Continue`` before its body.
    """

    method: str
    version: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    keep_alive: bool
    wants_continue: bool = False


class RequestSink(Protocol):
    """Who gets the requests; its methods are called while bytes are fed."""

    def head_begun(self) -> None: ...
    def head_read(self, head: RequestHead) -> None: ...
    def body_read(self, data: bytes) -> None: ...
    def request_read(self) -> None: ...


class RequestReader:
    """Reads the requests of one connection.

    Feed it at most :data:`SLICE_BYTES` at a time.
    """

    def __init__(self, limits: HeadLimits, sink: RequestSink) -> None:
        self._limits = limits
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._refusal: Rejection | None = None
        self.in_head = False
        """Whether a head has begun and not ended."""
        self._in_body = False
        self._target = b""
        self._headers: Headers = []
        self._size = 0
        self._trailers = 0
        self._unreported = 0
        self._offered = False

    @property
    def between_requests(self) -> bool:
        return not (self.in_head or self._in_body)

    def header(self, name: bytes) -> bytes | None:
        """What the head says that was read last, as far as it was read; by lower-case name."""
        values = [value for known, value in self._headers if known == name]
        return b", ".join(values) if values else None

    def end(self) -> None:
        """Nothing is fed any more. The parser and this reader hold each other, and would stay,
        with all that hangs on them, until the collector comes by."""
        del self._parser

    def feed(self, data: memoryview) -> None:
        """Read on.

        Raises:
            Rejection: no request, or one beyond the limits; nothing may be fed any more.
        """
        # A field that does not end is reported nowhere; it counts all the same.
        self._unreported += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_offer()
            self.feed(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            raise self._refusal or _malformed(error) from None
        if self._unreported > self._limits.bytes + SLICE_BYTES:
            raise _too_long("line", self._limits.bytes)

    def _ignore_offer(self) -> None:
        """Read the head again without its offer of another protocol (RFC 9110, 7.8): the parser
        takes the body of a request that makes one for the other protocol's first bytes."""
        target, headers = self._target, self._headers
        method, version = self._parser.get_method(), self._parser.get_http_version()
        self._offered = False
        self._parser = httptools.HttpRequestParser(self)
        lines = [b"%s: %s" % pair for pair in headers if pair[0] != b"upgrade"]
        first = b"%s %s HTTP/%s" % (method, target, version.encode())
        self.feed(memoryview(b"\r\n".join([first, *lines, b"", b""])))

    # -- what the parser reports; an exception here ends the feed --------------------------------

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._size = self._trailers = self._unreported = 0
        if not self.in_head:
            self.in_head = True
            self._sink.head_begun()

    def on_url(self, data: bytes) -> None:
        self._target += data
        self._unreported = 0
        if len(self._target) > self._limits.target_bytes:
            self._refuse(_too_long("target", self._limits.target_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unreported = 0
        self._size += len(name) + len(value)
        if self._in_body:
            # Trailers are nobody's headers (RFC 9110, 6.5.1), and have the same bounds.
            self._trailers += 1
            if self._size > self._limits.bytes or self._trailers > self._limits.lines:
                self._refuse(_too_long("trailer", self._limits.bytes))
            if name.lower() in _HEADS_ONLY:
                self._refuse(Rejection(400, f"{name.decode().title()}: stands behind the body"))
            return
        self._headers.append((name.lower(), value.strip(b" \t")))
        if self._size > self._limits.bytes:
            self._refuse(_too_long("head", self._limits.bytes))
        if len(self._headers) > self._limits.lines:
            self._refuse(Rejection(431, f"The head has more than {self._limits.lines} lines"))

    def on_headers_complete(self) -> None:
        if self._size + len(self._target) > self._limits.bytes:
            self._refuse(_too_long("head", self._limits.bytes))
        method = self._parser.get_method().decode("ascii")
        if method == "CONNECT":
            self._refuse(Rejection(400, "CONNECT: this server is no proxy"))
        if self._parser.should_upgrade():
            self._offered = True
            return
        version = self._parser.get_http_version()
        head = self._checked(self._read_head(method, version))
        self.in_head, self._in_body = False, True
        self._size = 0
        self._sink.head_read(head)

    def on_chunk_header(self) -> None:
        self._unreported = 0

    def on_body(self, data: bytes) -> None:
        self._unreported = 0
        self._sink.body_read(data)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._in_body = False
        self._unreported = 0
        self._sink.request_read()

    # -- what is a request -------------------------------------------------------------------------

    def _read_head(self, method: str, version: str) -> RequestHead:
        target = self._target
        try:
            url = httptools.parse_url(target)
            raw_path = url.path or b"/"
            path = raw_path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refuse(Rejection(400, "The request target is not a URL path"))
        return RequestHead(
            method=method,
            version=version,
            path=unquote(path) if "%" in path else path,
            raw_path=raw_path,
            query=url.query or b"",
            headers=self._headers,
            keep_alive=version == "1.1" and self._parser.should_keep_alive(),
        )

    def _checked(self, head: RequestHead) -> RequestHead:
        if head.version not in _KNOWN_VERSIONS:
            self._refuse(Rejection(400, "HTTP/1.1 and HTTP/1.0 are understood here"))
        values = dict(head.headers)
        if len(values) != len(head.headers):
            names = [name for name, _ in head.headers]
            for name in _SINGLE:
                if names.count(name) > 1:
                    self._refuse(Rejection(400, f"{name.decode().title()}: given more than once"))
        host = values.get(b"host")
        if host is None:
            if head.version == "1.1":
                self._refuse(Rejection(400, "Host: is required"))
        elif _HOST.fullmatch(host) is None:
            self._refuse(Rejection(400, "Host: not a host name or address"))
        coding = values.get(b"transfer-encoding")
        if coding is not None:
            if head.version != "1.1":
                self._refuse(Rejection(400, "Transfer-Encoding: not known to HTTP/1.0"))
            if coding.lower() != b"chunked":
                self._refuse(Rejection(400, "Transfer-Encoding: only chunked is understood"))
        head.wants_continue = (
            head.version == "1.1" and values.get(b"expect", b"").lower() == b"100-continue"
        )
        return head

    def _refuse(self, refusal: Rejection) -> Any:
        """Stops the parser, which reports an error of its own in place of this one."""
        self._refusal = refusal
        raise refusal


def _too_long(what: str, limit: int) -> Rejection:
    return Rejection(431, f"The request's {what} is longer than {limit} bytes")


def _malformed(error: Exception) -> Rejection:
    reason = str(error) or type(error).__name__
    return Rejection(400, f"Not an HTTP/1.1 request: {reason}")
