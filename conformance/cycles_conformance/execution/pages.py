"""``pages``: a list from its first page to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cycles_conformance.assertions.matching import match, shown
from cycles_conformance.casefiles.templates import Rows, rows_of
from cycles_conformance.client import Answer
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.repeats import may_repeat, once
from cycles_conformance.execution.request import ask
from cycles_conformance.results import Problem
from cycles_conformance.values import at_pointer

_MOST = 50


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


def run_pages(context: CaseContext, step: Mapping[str, Any], label: str) -> None:
    """Raises CaseEnded."""
    name, most = step["pages"], step.get("most", _MOST)
    kind = rows_of(name)
    assert kind is not None, "the schema of a case has no other pages"
    request = {"do": name, **{k: step[k] for k in ("as", "headers", "repeats") if k in step}}
    rows: list[Any] = []

    def page(query: Mapping[str, Any]) -> Answer:
        answer = ask(context, {**request, "query": query}, f"{label} from row {len(rows) + 1}")
        if problems := _page_problems(context, query, kind, answer, label):
            context.fail(problems)
        return answer

    for answer in pages(page, step.get("query", {}), most):
        rows += answer.told(f"/{kind.member}", list)
    problems = []
    rows, again = once(rows)
    if again and not may_repeat(step, kind):
        problems.append(f"{shown(again[0])} comes twice")
    if answer.maybe("/next_cursor", str) is not None:
        problems.append(f"the list goes on after {most} pages and {len(rows)} rows")
    patterns = [step["rows"]] if "rows" in step else []
    if kind.identity:
        patterns.insert(0, {"$distinct": kind.identity})
    values = context.values_of(request)
    for pattern in patterns:
        problems += [
            f"rows {m}" for m in match(values.resolve(pattern), rows, context.schemas_of(request))
        ]
    for saved, pointer in step.get("save", {}).items():
        try:
            context.known[saved] = at_pointer(rows, pointer)
        except KeyError:
            problems.append(f"the rows have no {pointer}, which a later step needs")
    if problems:
        context.fail([context.problem(message, label, answer) for message in problems])


def _page_problems(
    context: CaseContext, query: Mapping[str, Any], kind: Rows, answer: Answer, label: str
) -> list[Problem]:
    rows, problems = answer.told(f"/{kind.member}", list), []
    limit = int(query.get("limit", kind.most))
    if len(rows) > limit:
        problems.append(f"{len(rows)} rows on a page with limit {limit}")
    more, cursor = answer.maybe("/has_more", bool), answer.maybe("/next_cursor", str)
    if more is not None and more != (cursor is not None):
        problems.append(f"has_more is {shown(more)} and next_cursor {shown(cursor)}")
    return [context.problem(message, label, answer) for message in problems]
