"""Rows that come again: unsorted paging promises no more than that none is missing, and a server
that walks its store with SCAN shows some twice while others write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cycles_conformance.casefiles.templates import Rows, rows_of
from cycles_conformance.client import Answer

_SORTED = {"sort_by", "sort_dir"}


def may_repeat(step: Mapping[str, Any], rows: Rows) -> bool:
    """Whether a row may come again in the answers of a step."""
    unsorted = not step.get("query", {}).keys() & _SORTED
    return bool(step.get("repeats", rows.may_repeat and unsorted))


def once(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """The rows as they came first, and those that came again just so."""
    first: dict[str, Any] = {}
    again = []
    for row in rows:
        text = json.dumps(row, sort_keys=True)
        if text in first:
            again.append(row)
        first.setdefault(text, row)
    return [*first.values()], again


def with_rows_once(step: Mapping[str, Any], answer: Answer) -> Answer:
    """A page as it is to be judged: where a row may come again, each counts once."""
    kind = rows_of(step.get("do", ""))
    if kind is None or not isinstance(answer.body, dict) or not may_repeat(step, kind):
        return answer
    rows = answer.body.get(kind.member)
    if not isinstance(rows, list):
        return answer
    return replace(answer, body={**answer.body, kind.member: once(rows)[0]})
