"""The outermost layer: every request gets its ids and every answer its headers, whatever
happens in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycles_server.http.cors import Cors
from cycles_server.http.exchange import EXTENSION, Exchange, Reply, header_lines
from cycles_server.http.problems import SERVER_FAILED, Problem
from cycles_server.jsontext import write_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

AnswerHeaders = Callable[[Exchange, Reply], list[tuple[bytes, bytes]]]
"""What a plane adds to the headers of an answer."""

OnRefusal = Callable[[Exchange, Reply], Awaitable[Reply]]
"""Told of an error before it is sent; gives back what is sent. It raises nothing."""

_JSON = (b"content-type", b"application/json")
_BODILESS = (204, 304)
_FIRST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Mount:
    """Pages beside the contract.

    Attributes:
        prefix: what their paths begin with.
        route: how metrics call them.
        answer: the reply to a request for one of them; may raise Problem.
    """

    prefix: str
    route: str
    answer: Callable[[Exchange], Awaitable[Reply]]


class Edge:
    """Serves a contract, and beside it pages under prefixes of their own.

    Args:
        app: the contract's operations; it leaves its answer in ``exchange.reply``.
        mounts: the first one whose prefix fits answers.
        answer_headers: what every answer carries beside the ids.
        on_answer: told of each with its method, route, status, and the seconds that it took.
        on_refusal: asked before an error of the contract's operations, or of a path or method that
            is none of theirs, is sent; not before one of the pages, or to a preflight.
        cors: which page of another origin may call; None for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        mounts: Sequence[Mount],
        *,
        answer_headers: AnswerHeaders,
        on_answer: Callable[[str, str, int, float], None],
        on_refusal: OnRefusal | None = None,
        cors: Cors | None = None,
    ) -> None:
        self._answer_headers = answer_headers
        self._app = app
        self._on_answer = on_answer
        self._on_refusal = on_refusal
        self._cors = cors
        self._mounts = tuple(mounts)
        self._prefixes = tuple(mount.prefix for mount in mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope)
        # A dictionary of its own: the server's may be one for all requests.
        scope["extensions"] = {**(scope.get("extensions") or {}), EXTENSION: exchange}
        cors = self._cors
        is_preflight = cors is not None and cors.is_preflight(exchange)
        try:
            if cors is not None and is_preflight:
                exchange.reply = cors.preflight(exchange)
            elif exchange.path.startswith(self._prefixes):
                await self._mounted(exchange)
            else:
                await self._app(scope, receive, send)
        except Problem as problem:
            exchange.reply = exchange.error_reply(problem)
        except Exception:
            self._log_failure(exchange)
            exchange.reply = exchange.error_reply(_failure())
        reply = exchange.reply or exchange.error_reply(_failure())
        try:
            body = _written(reply)
        except TypeError:  # a number that no answer of the contract can hold
            self._log_failure(exchange)
            reply = exchange.error_reply(_failure())
            body = _written(reply)
        if (
            self._on_refusal is not None
            and reply.status >= _FIRST_ERROR
            and not is_preflight
            and not exchange.path.startswith(self._prefixes)
        ):
            reply = await self._on_refusal(exchange, reply)
            body = _written(reply)
        await self._send(exchange, reply, body, send)
        elapsed = time.perf_counter() - exchange.started
        self._on_answer(exchange.method, exchange.route, reply.status, elapsed)

    async def _mounted(self, exchange: Exchange) -> None:
        mount = next(item for item in self._mounts if exchange.path.startswith(item.prefix))
        exchange.route = mount.route
        exchange.reply = await mount.answer(exchange)

    async def _send(self, exchange: Exchange, reply: Reply, body: bytes, send: Send) -> None:
        media_type = reply.media_type
        headers = [
            _JSON if media_type == "application/json" else (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-cycles-trace-id", exchange.trace_id.encode()),
        ]
        if reply.is_empty:
            # Nothing has no type; and a length is forbidden where there never is a body.
            del headers[0 : 2 if reply.status in _BODILESS else 1]
        headers += self._answer_headers(exchange, reply)
        if self._cors is not None:
            headers += self._cors.headers(exchange.headers.get(b"origin"))
        if reply.headers:
            headers += header_lines(reply.headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        # An answer to HEAD has the headers of one with a body, and none.
        await send(
            {"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else body}
        )

    @staticmethod
    def _log_failure(exchange: Exchange) -> None:
        logger.exception(
            "%s %s failed",
            exchange.method,
            exchange.route,
            extra=exchange.ids,
        )


def _written(reply: Reply) -> bytes:
    """Raises: TypeError for a number that no answer of the contract can hold."""
    if reply.raw is not None:
        return reply.raw
    return b"" if reply.body is None else write_json(reply.body)


def _failure() -> Problem:
    return Problem("INTERNAL_ERROR", SERVER_FAILED)
