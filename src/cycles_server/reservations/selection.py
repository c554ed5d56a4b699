"""Which reservations a list asks for: all filters of a query, its window of creation, and what
the caller's key is limited to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cycles_server.auth.scopefilter import admits
from cycles_server.paging.windows import Window, read_window
from cycles_server.reservations.filters import FILTERS, Criterion
from cycles_server.reservations.records import Row, text_of

_NO_BOUNDS = Window().bounds


@dataclass(frozen=True, slots=True)
class Selection:
    """What a row must meet, all of it.

    Attributes:
        created: the window of creation, which the walk along the index keeps to.
        criteria: the filters that are asked for, by name.
        scope_filter: what the caller's key is limited to; not part of what was asked for.
    """

    created: Window
    criteria: Mapping[str, Criterion]
    scope_filter: tuple[str, ...]

    @property
    def idempotency_key(self) -> str:
        """The key asked for, which names the reservation at once; empty for any."""
        criterion = self.criteria.get("idempotency_key")
        return criterion.asked if criterion is not None else ""

    @property
    def fields(self) -> tuple[str, ...]:
        """What :meth:`admits` looks at, and whose the row is; none comes twice."""
        wanted = ["tenant"]
        if self.scope_filter:
            wanted.append("scope_path")
        for criterion in self.criteria.values():
            wanted += criterion.fields
        return tuple(dict.fromkeys(wanted))

    @property
    def looks_at_rows(self) -> bool:
        """Whether a row can be turned down at all, but for its time of creation."""
        return bool(self.criteria or self.scope_filter)

    def admits(self, row: Row) -> bool:
        """Whether a row is asked for. The window of creation is the index's business.

        Raises:
            StoreCorrupt: a field that decides cannot be read.
        """
        for criterion in self.criteria.values():
            if not criterion.admits(row):
                return False
        return not self.scope_filter or admits(self.scope_filter, text_of(row, "scope_path"))

    def asked(self) -> list[Any]:
        """What was asked for as JSON values, for a cursor's fingerprint.

        The first filters are always there, in this form: cursors that clients hold are bound to
        it. Any later one is there by its name where it is asked for, and so leaves the cursors
        of the lists without it as they are.
        """
        asked = {name: criterion.asked for name, criterion in self.criteria.items()}
        return [
            asked.pop("status", ""),
            asked.pop("idempotency_key", ""),
            asked.pop("subject", []),
            [
                self.created.bounds,
                asked.pop("expires", _NO_BOUNDS),
                asked.pop("finalized", _NO_BOUNDS),
            ],
            *sorted(asked.items()),
        ]


def read_selection(query: Mapping[str, Any], scope_filter: tuple[str, ...]) -> Selection:
    """What a query asks for.

    Raises:
        Refusal: 400 for a bound or window that is not one.
    """
    created = read_window(query, "from", "to")
    criteria = {name: read(query) for name, read in FILTERS.items()}
    return Selection(
        created=created,
        criteria={name: one for name, one in criteria.items() if one is not None},
        scope_filter=scope_filter,
    )
