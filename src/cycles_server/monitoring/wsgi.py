"""Runs a WSGI application in threads, answer by answer.

A thread is taken only while the application works: what it answers is whole before the client
gets a byte of it, so that no reader, however slow, keeps one.
"""

from __future__ import annotations

import asyncio
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from werkzeug.test import run_wsgi_app

from cycles_server.http.exchange import Exchange, Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

EXCHANGE = "cycles.exchange"
"""Under this name the application finds the exchange in its environment."""
_SET_BY_THE_EDGE = ("content-length", "content-type")


class ThreadedPages:
    """The pages of a WSGI application that takes no bodies.

    Args:
        threads: how many requests it works on at once; the others wait.
    """

    def __init__(self, app: WSGIApplication, *, threads: int, name: str) -> None:
        self._app = app
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def answer(self, exchange: Exchange) -> Reply:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._run, exchange)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, exchange: Exchange) -> Reply:
        content, status, headers = run_wsgi_app(self._app, _environment(exchange), buffered=True)
        return Reply(
            int(status.partition(" ")[0]),
            None,
            raw=b"".join(content),
            media_type=headers.get("content-type", "application/octet-stream"),
            headers=tuple(
                (name.lower(), value)
                for name, value in headers
                if name.lower() not in _SET_BY_THE_EDGE
            ),
        )


def _environment(exchange: Exchange) -> dict[str, Any]:
    """The request as PEP 3333 has it. HEAD is asked as GET: the edge leaves its body out."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET" if exchange.method == "HEAD" else exchange.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": exchange.path.encode().decode("latin-1"),
        "QUERY_STRING": exchange.query_string.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": exchange.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        EXCHANGE: exchange,
    }
    for name, value in exchange.headers.items():
        # With an underscore it would pass for another header; the host decides nothing here.
        if b"_" not in name and name not in (b"content-length", b"content-type", b"host"):
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
            environ[key] = value.strip(b" \t").decode("latin-1")
    return environ
