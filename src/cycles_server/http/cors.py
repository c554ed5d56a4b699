"""Which page of another origin may call from a browser, and what it may read (Fetch's CORS)."""

from __future__ import annotations

from dataclasses import dataclass

from cycles_server.http.exchange import Exchange, Reply
from cycles_server.http.problems import Problem

_ASKED_METHOD = b"access-control-request-method"
_ASKED_HEADERS = b"access-control-request-headers"
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_GOOD_FOR_S = "600"


@dataclass(frozen=True, slots=True)
class Cors:
    """The one origin that may.

    Attributes:
        origin: as browsers send it, ``https://dashboard.example``.
        exposed: headers of an answer that the page may read.
    """

    origin: str
    exposed: tuple[str, ...] = ()

    @staticmethod
    def is_preflight(exchange: Exchange) -> bool:
        """Whether a browser asks if a page may send a request. It does so without any key."""
        return (
            exchange.method == "OPTIONS" and {b"origin", _ASKED_METHOD} <= exchange.headers.keys()
        )

    def preflight(self, exchange: Exchange) -> Reply:
        """The answer, which is yes whatever the path.

        Raises:
            Problem: 403 for a page of another origin.
        """
        if not self._is_of(exchange.headers[b"origin"]):
            raise Problem("FORBIDDEN", "No page of this origin may call")
        headers = [
            ("access-control-allow-methods", _METHODS),
            ("access-control-max-age", _GOOD_FOR_S),
        ]
        asked = exchange.header(_ASKED_HEADERS)
        if asked and asked.isascii():
            headers.append(("access-control-allow-headers", asked))
        return Reply(200, headers=tuple(headers))

    def headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """What every answer carries, errors too, to a request from an origin, or from none."""
        headers = [(b"vary", b"Origin")]
        if origin is not None and self._is_of(origin):
            headers.append((b"access-control-allow-origin", origin))
            if self.exposed:
                exposed = ", ".join(self.exposed).encode()
                headers.append((b"access-control-expose-headers", exposed))
        return headers

    def _is_of(self, origin: bytes) -> bool:
        return origin == self.origin.encode()
