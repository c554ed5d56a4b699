"""The outermost layer: every request gets its ids and every answer its headers, whatever
happens in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycles_server.http.exchange import EXTENSION, Exchange, Reply, header_lines
from cycles_server.http.json import write_json
from cycles_server.http.problems import SERVER_FAILED, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from cycles_server.monitoring.metrics import Metrics

logger = logging.getLogger(__name__)

# No limit is set on authenticated operations; the reference says so with these two values.
_NO_LIMIT = [(b"x-ratelimit-remaining", b"-1"), (b"x-ratelimit-reset", b"0")]
_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Mount:
    """Pages beside the protocol plane.

    Attributes:
        prefix: what their paths begin with.
        route: how metrics call them.
        answer: the reply to a request for one of them; may raise Problem.
    """

    prefix: str
    route: str
    answer: Callable[[Exchange], Awaitable[Reply]]


class Edge:
    """Serves the protocol plane, and beside it pages under prefixes of their own.

    Args:
        app: the protocol plane; it leaves its answer in ``exchange.reply``.
        mounts: the first one whose prefix fits answers.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, mounts: Sequence[Mount] = ()) -> None:
        self._app = app
        self._metrics = metrics
        self._mounts = tuple(mounts)
        self._prefixes = tuple(mount.prefix for mount in mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope)
        # A dictionary of its own: the server's may be one for all requests.
        scope["extensions"] = {**(scope.get("extensions") or {}), EXTENSION: exchange}
        try:
            if exchange.path.startswith(self._prefixes):
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
            body = write_json(reply.body) if reply.raw is None else reply.raw
        except TypeError:  # a number that no answer of the contract can hold
            self._log_failure(exchange)
            reply = exchange.error_reply(_failure())
            body = write_json(reply.body)
        await self._send(exchange, reply, body, send)
        elapsed = time.perf_counter() - exchange.started
        self._metrics.request(exchange.method, exchange.route, reply.status, elapsed)

    async def _mounted(self, exchange: Exchange) -> None:
        mount = next(item for item in self._mounts if exchange.path.startswith(item.prefix))
        exchange.route = mount.route
        exchange.reply = await mount.answer(exchange)

    @staticmethod
    async def _send(exchange: Exchange, reply: Reply, body: bytes, send: Send) -> None:
        media_type = reply.media_type
        headers = [
            _JSON if media_type == "application/json" else (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-cycles-trace-id", exchange.trace_id.encode()),
        ]
        # A key that was good before, and no longer is, leaves its principal in the exchange.
        if exchange.principal is not None and reply.status != 401:
            if exchange.tenant is not None:
                headers.append((b"x-cycles-tenant", exchange.tenant.encode()))
            headers += _NO_LIMIT
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


def _failure() -> Problem:
    return Problem("INTERNAL_ERROR", SERVER_FAILED)
