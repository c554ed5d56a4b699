"""Which reservations a list asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cycles_server.auth.scopefilter import admits
from cycles_server.ledger.scopes import LEVELS, asked_segments
from cycles_server.paging.queries import given
from cycles_server.paging.windows import Window, read_window
from cycles_server.reservations.records import Row, finalized_at_ms, number_of, text_of


@dataclass(frozen=True, slots=True)
class Selection:
    """The filters of a list; all of them must be met.

    Attributes:
        status, idempotency_key: empty for any.
        segments: scope segments that the scope path must hold.
        created, expires, finalized: windows in epoch ms.
        scope_filter: what the caller's key is limited to; not part of what was asked for.
    """

    status: str
    idempotency_key: str
    segments: frozenset[str]
    created: Window
    expires: Window
    finalized: Window
    scope_filter: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """What :meth:`admits` looks at, and whose the row is."""
        wanted = ["tenant"]
        if self.status or not self.finalized.is_open:
            wanted.append("state")
        if self.idempotency_key:
            wanted.append("idempotency_key")
        if self.segments or self.scope_filter:
            wanted.append("scope_path")
        if not self.expires.is_open:
            wanted.append("expires_at")
        if not self.finalized.is_open:
            wanted += ["committed_at", "released_at"]
        return tuple(wanted)

    @property
    def looks_at_rows(self) -> bool:
        """Whether a row can be turned down at all, but for its time of creation."""
        return len(self.fields) > 1

    def admits(self, row: Row) -> bool:
        """Whether a row is asked for. The window of creation is the index's business.

        Raises:
            StoreCorrupt: a field that decides cannot be read.
        """
        if self.status and text_of(row, "state") != self.status:
            return False
        if self.idempotency_key and row.get("idempotency_key") != self.idempotency_key.encode():
            return False
        if self.segments or self.scope_filter:
            scope = text_of(row, "scope_path")
            if not self.segments.issubset(scope.split("/")):
                return False
            if not admits(self.scope_filter, scope):
                return False
        if not self.expires.is_open and not self.expires.admits(number_of(row, "expires_at")):
            return False
        return self.finalized.is_open or self.finalized.admits(finalized_at_ms(row))

    def asked(self) -> list[Any]:
        """The filters and windows as JSON values, for a cursor's fingerprint."""
        windows = (self.created, self.expires, self.finalized)
        bounds = [[window.lower, window.upper] for window in windows]
        return [self.status, self.idempotency_key, sorted(self.segments), bounds]


def read_selection(query: Mapping[str, Any], scope_filter: tuple[str, ...]) -> Selection:
    """The filters of a query. ``tenant`` is none of them: it says whose list is asked for.

    Raises:
        Refusal: 400 for a bound or window that is not one.
    """
    return Selection(
        status=given(query, "status"),
        idempotency_key=given(query, "idempotency_key"),
        segments=asked_segments(query, LEVELS[1:]),
        created=read_window(query, "from", "to"),
        expires=read_window(query, "expires_from", "expires_to"),
        finalized=read_window(query, "finalized_from", "finalized_to"),
        scope_filter=scope_filter,
    )
