"""Request and trace ids (contract: Correlation and tracing)."""

from __future__ import annotations

import os
import re

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


def fresh_id() -> str:
    """32 lower-case hexadecimal characters, never all zero."""
    value = os.urandom(16).hex()
    return value if value != _NO_TRACE else fresh_id()


def trace_of(traceparent: str | None, trace_header: str | None) -> str:
    """The trace id of a request.

    A malformed header counts as absent; ``traceparent`` wins over ``X-Cycles-Trace-Id``.
    """
    if traceparent is not None:
        match = _TRACEPARENT.fullmatch(traceparent)
        if match and match[1] != _NO_TRACE and match[2] != _NO_SPAN:
            return match[1]
    if trace_header is not None and _TRACE_ID.fullmatch(trace_header) and trace_header != _NO_TRACE:
        return trace_header
    return fresh_id()
