"""Calls to an admin plane over HTTP, with the operator's key."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from cycles_server import __version__
from cycles_server.auth.adminkey import HEADER
from cycles_server.cli.admin.output import plain

TENANTS = "/v1/admin/tenants"
BUDGETS = "/v1/admin/budgets"
API_KEYS = "/v1/admin/api-keys"
POLICIES = "/v1/admin/policies"
AUDIT_LOGS = "/v1/admin/audit/logs"

MOST_ROWS = 100
"""Of a page, at most."""

_AGENT = f"cycles-server/{__version__}"
_TIMEOUT = httpx.Timeout(60, connect=5)
_TRACE = "x-cycles-trace-id"  # on each answer of a Cycles server, whatever its status
_NO_TENANT = f"{TENANTS}/-"  # too short to be anybody's


class AdminError(Exception):
    """A call that did not do what it was for; ``str()`` is one line for the operator.

    Attributes:
        may_have_worked: whether the request may have taken effect nevertheless.
    """

    def __init__(self, message: str, *, may_have_worked: bool = False) -> None:
        super().__init__(message)
        self.may_have_worked = may_have_worked


class Unreachable(AdminError):
    """No admin plane has answered this key at this URL."""


class Refused(AdminError):
    """The admin plane has said no, or has failed.

    Attributes:
        status: of the answer.
        code: the contract's error code.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(body["error"])
        request_id = plain(body.get("request_id", "none"))
        message = plain(body["message"])
        super().__init__(
            f"{status} {plain(self.code)}: {message} (request_id {request_id})",
            may_have_worked=status >= 500,
        )


def read_url(url: str) -> httpx.URL:
    """Raises: Unreachable for what is none of a server."""
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise Unreachable(f"{plain(url)} is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Unreachable(f"{plain(url)} is no URL: it must begin with http:// or https://")
    return parsed


class AdminApi:
    """An admin plane, for as long as the ``with`` block lasts.

    Raises:
        Unreachable: a URL that is none, or a key that no header can carry.
    """

    def __init__(self, url: str, key: str) -> None:
        parsed = read_url(url)
        self.url = url.rstrip("/")
        if not (key.isascii() and key.isprintable()):
            raise Unreachable("the admin key has characters that no HTTP header can carry")
        self._http = httpx.Client(
            base_url=parsed, headers={HEADER: key, "User-Agent": _AGENT}, timeout=_TIMEOUT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        """The JSON object of an answer.

        Args:
            query: members by name; those that are None are not sent.
            body: an object to send as JSON; None for no body.

        Raises:
            Unreachable: no answer, or none of an admin plane to its operator.
            Refused: any status but 2xx.
        """
        return self.answer(method, path, query=query, body=body)[1]

    def answer(
        self, method: str, path: str, *, query: Any = None, body: Any = None
    ) -> tuple[int, Any]:
        """The same with the answer's status."""
        answer = self._send(method, path, query, body)
        document = self._read(answer)
        if answer.is_success:
            return answer.status_code, document
        refused = Refused(answer.status_code, document)
        if refused.status == 401:
            raise Unreachable(f"{self.url} does not take this admin key: {refused}")
        if refused.status == 404 and refused.code == "NOT_FOUND" and not self._is_admin_plane():
            raise Unreachable(
                f"{self.url} is a Cycles server, but not the address of its admin plane "
                "(http://HOST:7979 by default)"
            )
        raise refused

    def rows(
        self, path: str, member: str, query: Mapping[str, Any], limit: int
    ) -> tuple[list[Any], bool]:
        """The rows of a list, over as many pages as it takes, and whether there are more.

        Args:
            member: which one of a page holds its rows.
            limit: rows at most.

        Raises:
            Unreachable, Refused: see :meth:`call`.
        """
        rows: list[Any] = []
        cursor: str | None = None
        while True:
            asked = {**query, "limit": min(limit - len(rows), MOST_ROWS), "cursor": cursor}
            page = self.call("GET", path, query=asked)
            rows += page.get(member, ())
            more, following = bool(page.get("has_more")), page.get("next_cursor")
            if not more or following in (None, cursor) or len(rows) >= limit:
                return rows[:limit], more or len(rows) > limit
            cursor = following

    def _send(self, method: str, path: str, query: Any, body: Any) -> httpx.Response:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            return self._http.request(method, path, params=given, json=body)
        except httpx.HTTPError as error:
            never = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            what = "cannot be reached" if never else "gives no answer"
            why = plain(str(error) or type(error).__name__)
            if never:
                why += "; is an admin plane running there? --url names another"
            raise Unreachable(f"{self.url} {what}: {why}", may_have_worked=not never) from None

    def _read(self, answer: httpx.Response) -> Any:
        """Raises: Unreachable for what no Cycles server answers."""
        try:
            document = answer.json()
        except ValueError:
            document = None
        ours = isinstance(document, dict) and _TRACE in answer.headers
        if ours and (answer.is_success or {"error", "message"} <= document.keys()):
            return document
        raise Unreachable(
            f"{self.url} is no Cycles admin plane: it answers {answer.status_code} to "
            f"{answer.request.method} {answer.request.url.path}, and not as one does",
            may_have_worked=answer.status_code >= 500,
        )

    def _is_admin_plane(self) -> bool:
        answer = self._read(self._send("GET", _NO_TENANT, None, None))
        return bool(answer.get("error") == "TENANT_NOT_FOUND")


def segment(text: str) -> str:
    """An id as a segment of a path."""
    return quote(text, safe="")
