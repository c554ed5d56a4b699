"""What a query may ask of any list: a limit, text filters, an order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cycles_server.paging.cursors import Cursor, malformed_cursor
from cycles_server.scopes import LEVELS, lower_case

DEFAULT_LIMIT = 50

Order = tuple[str, str]
"""Sort key, and ``asc`` or ``desc``."""
_DIRECTIONS = ("asc", "desc")


def given(query: Mapping[str, Any], name: str) -> str:
    """A text filter; a blank one counts as not given (then empty)."""
    value: str = query.get(name, "")
    return value if value.strip() else ""


def asked_segments(query: Mapping[str, Any], levels: Sequence[str] = LEVELS) -> frozenset[str]:
    """The scope segments that a list's subject filters ask for, such as ``agent:bot``."""
    return frozenset(
        f"{level}:{lower_case(value)}" for level in levels if (value := given(query, level))
    )


def read_order(query: Mapping[str, Any], default_key: str) -> Order | None:
    """The order that ``sort_by`` and ``sort_dir`` ask for; None where neither is there."""
    if "sort_by" in query or "sort_dir" in query:
        return (query.get("sort_by", default_key), query.get("sort_dir", "desc"))
    return None


def order_in(cursor: Cursor, sort_keys: Collection[str]) -> Order | None:
    """The order that a cursor was given out for.

    Raises:
        Refusal: 400 for one that the list does not know.
    """
    order = cursor.order
    if order is not None and (order[0] not in sort_keys or order[1] not in _DIRECTIONS):
        raise malformed_cursor()
    return order
