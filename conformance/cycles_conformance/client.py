"""The HTTP client: sends one request and keeps both sides of the exchange."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cycles_conformance.assertions.matching import shown
from cycles_conformance.failures import UnusableAnswer
from cycles_conformance.results import Exchange
from cycles_conformance.values import MISSING, at_pointer, parse_json

if TYPE_CHECKING:
    # It takes long to load, and a command that only tells something sends no request.
    import httpx

Told = TypeVar("Told")

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""What comes beyond is not read."""
_REMEMBERED = 200
KEPT_CHARACTERS = 256 * 1024
"""So much of a body is kept for the reports."""


class TargetLost(Exception):
    """The server cannot be talked to; one line."""


class RunEnded(TargetLost):
    """Nothing more is asked of the server in this run; one line says why."""


@dataclass(frozen=True)
class Answer:
    """What came back; ``body`` is the parsed JSON, or MISSING when it is not JSON."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    text: str
    """Bytes that are not UTF-8 stand in it as lone surrogates."""
    body: Any
    exchange: Exchange

    def told(self, pointer: str, kind: type[Told]) -> Told:
        """The value of the body there. Raises UnusableAnswer unless it is there and of that
        kind."""
        value = self.maybe(pointer, kind)
        if value is None:
            raise UnusableAnswer(f"status {self.status} without {pointer}")
        return value

    def maybe(self, pointer: str, kind: type[Told]) -> Told | None:
        """The value of the body there, or None when there is none. Raises UnusableAnswer when it
        is of another kind; 5.0 is an integer to JSON Schema, and true is none."""
        try:
            value = at_pointer(self.body, pointer)
        except KeyError:
            return None
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UnusableAnswer(f"{pointer} is {shown(value)}, which is no {kind.__name__}")
        return value


class Client:
    """Talks to one base URL. Safe to use from several threads.

    ``timeout`` in seconds bounds each phase of a request: connect, write, wait for the answer, and
    the reading of the whole body. ``on_slow`` is told of each answer that took more than half of
    it: when its request began (``time.monotonic()``). Raises TargetLost when the environment
    (proxies, certificates) allows no client at all.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        import httpx

        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            self._http = httpx.Client(
                timeout=httpx.Timeout(timeout),
                # Shorter than the five seconds after which many servers close an idle connection.
                limits=httpx.Limits(
                    max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0
                ),
                follow_redirects=False,
                headers={"User-Agent": "cycles-conformance", "Accept": "application/json"},
            )
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise TargetLost(f"no HTTP client by this environment: {error}") from error
        self.timeout = timeout
        self.on_slow: Callable[[float], object] = lambda began: None
        self._ended = ""
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    def send(
        self,
        step: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer | Exchange:
        """The answer, or the bare exchange when none came. ``path`` is sent as it is. Raises
        RunEnded after ``end``."""
        if self._ended:
            raise RunEnded(self._ended)
        url = self.url + path
        pairs = _pairs(query or {})
        if pairs:
            url += ("&" if "?" in path else "?") + "&".join(
                f"{_quoted(name)}={_quoted(value)}" for name, value in pairs
            )
        sent = dict(headers or {})
        started = time.monotonic()
        response, content, failure, dropped = self._attempt(method, url, sent, body)
        if dropped:
            # A server may close an idle connection in the very moment in which it is used again,
            # which says nothing about it. Idempotency keys make it safe to ask once more.
            response, content, failure, _ = self._attempt(method, url, sent, body)
        milliseconds = (time.monotonic() - started) * 1000
        self._took.append(milliseconds)
        if response is not None and self.slow(milliseconds):
            self.on_slow(started)
        if response is None:
            return Exchange(
                step, method, url, sent, body, None, {}, "", milliseconds, failure=failure
            )
        text = content.decode("utf-8", errors="surrogateescape")
        kept = content.decode("utf-8", errors="replace")
        if len(kept) > KEPT_CHARACTERS:
            left_out = len(kept) - KEPT_CHARACTERS
            kept = f"{kept[:KEPT_CHARACTERS]}… (and {left_out} characters more)"
        exchange = Exchange(
            step, method, url, sent, body, response.status_code,
            dict(response.headers), kept, milliseconds,
        )  # fmt: skip
        return Answer(
            response.status_code,
            {name.lower(): value for name, value in response.headers.items()},
            text,
            parsed(text),
            exchange,
        )

    @property
    def usual_ms(self) -> float:
        """The median of the last requests, 0 before the first."""
        return statistics.median([*self._took] or [0.0])

    def slow(self, milliseconds: float) -> bool:
        """Whether an answer that took so long was near to none."""
        return milliseconds > self.timeout * 500

    def end(self, why: str) -> None:
        """Send nothing more; requests that are under way come to their own end."""
        self._ended = why

    def close(self) -> None:
        self._http.close()

    def _attempt(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None
    ) -> tuple[httpx.Response | None, bytes, str, bool]:
        """The response and its body, or why there is none; and whether the connection was closed
        before any of a response came."""
        import httpx

        begun = False
        try:
            content = None if body is None else body.encode(errors="replace")
            fields = httpx.Headers(headers, encoding="utf-8")
            with self._http.stream(method, url, headers=fields, content=content) as response:
                begun = True
                return response, self._content(response), "", False
        except httpx.TimeoutException:
            return None, b"", f"no complete answer within {self.timeout:g} s", False
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            closed = isinstance(
                error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
            )
            failure = f"no answer: {str(error) or type(error).__name__}"
            return None, b"", failure, closed and not begun

    def _content(self, response: httpx.Response) -> bytes:
        """Neither an endless body nor one that drips may hold a run up."""
        import httpx

        deadline = time.monotonic() + self.timeout
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) >= MAX_ANSWER_BYTES:
                break
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the body takes too long")
        return bytes(content[:MAX_ANSWER_BYTES])


def parsed(text: str) -> Any:
    """JSON, integers exact; MISSING when it is none."""
    try:
        return parse_json(text)
    except ValueError:
        return MISSING


def path_of(template: str, members: Mapping[str, Any]) -> str:
    """A path of the contract with its parameters put in, percent-encoded; None leaves it empty."""
    for name, value in members.items():
        text = "" if value is None else str(value)
        template = template.replace(f"{{{name}}}", _quoted(text))
    return template


def _quoted(text: str) -> str:
    # A server's JSON can hold a lone surrogate, which no URL can.
    return quote(text, safe="", errors="replace")


def _pairs(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in query.items():
        values = value if isinstance(value, list) else [value]
        for one in values:
            if one is not None:
                text = one if isinstance(one, str) else json.dumps(one)
                pairs.append((name, text))
    return pairs
