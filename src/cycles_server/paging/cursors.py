"""Cursors: where a page ended, as an opaque text that any worker can read.

A cursor names the last row (its sort value and id), not a position, so that rows that come and
go between two pages neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from cycles_server.refusal import Refusal, invalid

Place = tuple[Any, str]
"""What a row is ordered by (an integer or a text), and the id that breaks ties."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end of a page.

    Attributes:
        kind: which list it belongs to; one list's cursor is another's malformed one.
        after: the last row of the page.
        order: sort key and direction, for a list that was asked to sort.
        binding: :func:`fingerprint` of all that must not change between two pages.
    """

    kind: str
    after: Place
    order: tuple[str, str] | None = None
    binding: str = ""

    def text(self) -> str:
        fields = [self.kind, self.after, self.order, self.binding]
        return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode()

    def place(self, value_type: type, binding: str) -> Place:
        """Where the next page goes on.

        Args:
            value_type: of what the list's rows are ordered by.
            binding: of the query that the cursor came with.

        Raises:
            Refusal: 400 for a cursor of another binding, or of no place in this list.
        """
        if self.binding != binding:
            raise foreign_cursor()
        if type(self.after[0]) is not value_type:
            raise malformed_cursor()
        return self.after


def read_cursor(query: Mapping[str, Any], kinds: Collection[str]) -> Cursor | None:
    """The cursor in a query's ``cursor``; None for none or a blank one.

    Args:
        kinds: the kinds that the operation hands out.

    Raises:
        Refusal: 400 for a text that is not such a cursor.
    """
    text = query.get("cursor", "").strip()
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        fields = orjson.loads(base64.b64decode(padded, altchars="-_", validate=True))
        kind, (value, row_id), order, binding = fields
        if kind not in kinds or type(value) not in (int, str):
            raise malformed_cursor()
        if order is not None:
            by, direction = order
            order = (_text(by), _text(direction))
        return Cursor(kind, (value, _text(row_id)), order, _text(binding))
    except (ValueError, TypeError):
        raise malformed_cursor() from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def malformed_cursor() -> Refusal:
    return invalid("cursor", "is not a cursor of this list")


def foreign_cursor() -> Refusal:
    return invalid("cursor", "belongs to a list with another sort order, filter or time window")


def fingerprint(*parts: Any) -> str:
    """A short digest of what a cursor is bound to (JSON values)."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:32]
