"""The filters of the reservation list: each is declared here, and nowhere else.

A filter is a function from the query to a :class:`Criterion`, and a line in :data:`FILTERS`. The
window of creation is the one exception: the index is walked within it (see ``selection``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cycles_server.paging.queries import asked_segments, given
from cycles_server.paging.windows import read_window
from cycles_server.reservations.records import Row, finalized_at_ms, number_of, text_of
from cycles_server.scopes import LEVELS

Query = Mapping[str, Any]


class Criterion(NamedTuple):
    """A filter, as one query asks for it.

    Attributes:
        asked: what was asked for, as a JSON value: a sorted list's cursor is bound to it.
        fields: the fields of a record that decide.
        admits: whether a row is asked for. Raises StoreCorrupt for a field that it cannot read.
    """

    asked: Any
    fields: tuple[str, ...]
    admits: Callable[[Row], bool]


def _status(query: Query) -> Criterion | None:
    status = given(query, "status")
    if not status:
        return None
    return Criterion(status, ("state",), lambda row: text_of(row, "state") == status)


def _idempotency_key(query: Query) -> Criterion | None:
    key = given(query, "idempotency_key")
    if not key:
        return None
    stored = key.encode()
    return Criterion(key, ("idempotency_key",), lambda row: row.get("idempotency_key") == stored)


def _subject(query: Query) -> Criterion | None:
    # `tenant` is no filter: it says whose list is asked for.
    segments = asked_segments(query, LEVELS[1:])
    if not segments:
        return None
    return Criterion(
        sorted(segments),
        ("scope_path",),
        lambda row: segments.issubset(text_of(row, "scope_path").split("/")),
    )


def _expires(query: Query) -> Criterion | None:
    window = read_window(query, "expires_from", "expires_to")
    if window.is_open:
        return None
    return Criterion(
        window.bounds, ("expires_at",), lambda row: window.admits(number_of(row, "expires_at"))
    )


def _finalized(query: Query) -> Criterion | None:
    window = read_window(query, "finalized_from", "finalized_to")
    if window.is_open:
        return None
    return Criterion(
        window.bounds,
        ("state", "committed_at", "released_at"),
        lambda row: window.admits(finalized_at_ms(row)),
    )


FILTERS: dict[str, Callable[[Query], Criterion | None]] = {
    "status": _status,
    "idempotency_key": _idempotency_key,
    "subject": _subject,
    "expires": _expires,
    "finalized": _finalized,
}
"""Every filter by its name; None where a query does not ask for it. Each raises Refusal, 400,
for a value that is none."""
