"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cycles_conformance.client import Answer


def pages(
    page: Callable[[Mapping[str, Any]], Answer], query: Mapping[str, Any], most: int
) -> Iterator[Answer]:
    """The answers from the first page to the last, ``most`` at most; ``page`` sends one request
    with a query and sees to it that the answer is valid."""
    for _ in range(most):
        answer = page(query)
        yield answer
        cursor = answer.maybe("/next_cursor", str)
        if cursor is None:
            return
        query = {**query, "cursor": cursor}
