"""How text is shown: made harmless, cut to length, and JSON indented without touching a digit."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from cycles_conformance.results import Exchange

LIMIT = 4_000
"""Characters of one text that a person is shown; the JSON report has everything."""

_INDENT_UP_TO = 100_000  # a longer body is cut long before its indentation would be seen

# Control characters, what UTF-8 or XML cannot hold, and marks that reorder the text around them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ufeff\ufffe\uffff\ud800-\udfff]"
)
_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def visible(text: str) -> str:
    """The text with every character that could harm or mislead written as an escape.

    A server's answers end up in terminals, in XML and in published pages. Tab and newline stay.
    """
    return _UNSEEN.sub(lambda found: escape(found[0]), text)


def escape(character: str) -> str:
    r"""``\r``, ``\x1b`` or ``\u202e``."""
    if character == "\r":
        return r"\r"
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str, limit: int) -> str:
    """The text without line breaks, and with an ellipsis if it is longer than the limit."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def shortened(text: str, limit: int = LIMIT) -> str:
    """The beginning of a long text, with a note of how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters (all are in a JSON report)"


def pretty(body: str) -> str:
    """JSON indented, anything else as it is.

    The text is re-spaced, not parsed and written again: numbers keep every digit, strings their
    escapes, and members that are named twice stay.
    """
    try:
        json.loads(body, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return body
    lines = [""]
    depth = 0
    before = ""
    for word in _WORD.findall(body):
        closes = word in ("]", "}")
        depth -= closes
        breaks = before in ("[", "{", ",") or closes
        if breaks and before + word not in ("[]", "{}"):
            lines.append("  " * depth)
        lines[-1] += ": " if word == ":" else word
        depth += word in ("[", "{")
        before = word
    return "\n".join(lines)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def shown_body(body: str) -> str:
    """A body for people: indented if it is JSON, and cut to length."""
    return shortened(pretty(body) if len(body) <= _INDENT_UP_TO else body)


def shown_headers(headers: dict[str, str]) -> str:
    return shortened("\n".join(f"{name}: {value}" for name, value in headers.items()))


def status_line(exchange: Exchange) -> str:
    """``409 Conflict``, or why no answer came."""
    if exchange.status is None:
        return f"no answer: {exchange.failure or 'unknown reason'}"
    try:
        return f"{exchange.status} {HTTPStatus(exchange.status).phrase}"
    except ValueError:
        return str(exchange.status)


def exchange_text(exchange: Exchange) -> str:
    """The request and its answer as a plain text, cut to length."""
    request = [f"{exchange.method} {shortened(exchange.url)}"]
    answer = [f"{status_line(exchange)} ({exchange.milliseconds:.0f} ms)"]
    return "\n\n".join(
        filter(
            None,
            (
                "\n".join(filter(None, [*request, shown_headers(exchange.request_headers)])),
                shown_body(exchange.request_body or ""),
                "\n".join(filter(None, [*answer, shown_headers(exchange.response_headers)])),
                shown_body(exchange.response_body),
            ),
        )
    )


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 5 s``, ``1 h 2 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cases(count: int) -> str:
    """``1 case``, ``1,200 cases``."""
    return f"{count:,} case" if count == 1 else f"{count:,} cases"
