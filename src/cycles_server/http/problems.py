"""What can go wrong with HTTP itself, as one exception with the contract's codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STATUS_OF = {
    "INVALID_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
}
"""The codes that every plane's contract has; the others are in the plane's own table."""

SERVER_FAILED = "The server failed; its log says why under this request_id"

Headers = tuple[tuple[str, str], ...]


class Problem(Exception):
    """An exchange that ends in an ErrorResponse.

    Args:
        code: a member of the contract's ErrorCode.
        message: for people; names the member, scope or setting concerned.
        details: the ErrorResponse's ``details``.
        status: where the code alone does not say it (405, 413).
        headers: further response headers.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        status: int | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = status or STATUS_OF[code]
        self.headers = headers


def no_such_path() -> Problem:
    return Problem("NOT_FOUND", "There is no such path")


def method_not_allowed(method: str, allowed: Iterable[str]) -> Problem:
    """405 with the methods that the path has."""
    names = ", ".join(sorted(allowed))
    return Problem(
        "INVALID_REQUEST",
        f"{method} is not allowed here; this path has {names}",
        status=405,
        headers=(("allow", names),),
    )


def error_body(problem: Problem, request_id: str, trace_id: str) -> dict[str, Any]:
    """The contract's ErrorResponse."""
    body: dict[str, Any] = {
        "error": problem.code,
        "message": problem.message,
        "request_id": request_id,
        "trace_id": trace_id,
    }
    if problem.details is not None:
        body["details"] = dict(problem.details)
    return body
