"""The same request several times at once: one action, one answer for all."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from cycles_conformance.assertions.matching import same, shown
from cycles_conformance.client import Answer
from cycles_conformance.properties.base import Books, Session, charged_of
from cycles_conformance.provisioners import BudgetSpec
from cycles_conformance.values import without

COPIES = 6
TURNS = 8
ALLOCATED = {"": 100_000, "workspace:w": 60_000, "workspace:w/agent:a": 50_000}
SUBJECT = {"workspace": "w", "agent": "a"}
FRESH = ["/remaining_ttl_ms"]


def budgets() -> tuple[BudgetSpec, ...]:
    return tuple(
        BudgetSpec("tenant", scope, "TOKENS", allocated) for scope, allocated in ALLOCATED.items()
    )


def check(session: Session, rng: Random) -> None:
    """Each mutation counts once, and the copies that came too late get the first one's answer."""
    books = Books(ALLOCATED)
    for turn in range(TURNS):
        estimate = rng.randrange(1, 400)
        body: dict[str, Any] = {"subject": SUBJECT, "estimate": {"amount": estimate}}
        answer = _copies(session, "reserve", {"body": body}, f"{turn}")
        books.reserve(SUBJECT, estimate)
        books.compare(session)
        path = {"reservation_id": answer.told("/reservation_id", str)}
        before = answer.maybe("/expires_at_ms", int)
        by = rng.randrange(1, 60_000)
        extended = _copies(
            session, "extend", {"path": path, "body": {"extend_by_ms": by}}, f"{turn}"
        )
        after = extended.told("/expires_at_ms", int)
        moved = after - before if before is not None else 0
        if not 0 <= moved <= by:
            session.fail(f"{COPIES} copies of an extension by {by} ms moved the expiry by {moved}")
        if rng.random() < 0.5:
            actual = rng.randrange(0, 2 * estimate)
            body = {"actual": {"amount": actual}}
            committed = _copies(session, "commit", {"path": path, "body": body}, f"{turn}")
            books.settle(SUBJECT, estimate, charged_of(committed, actual))
        else:
            _copies(session, "release", {"path": path}, f"{turn}")
            books.settle(SUBJECT, estimate, 0)
        books.compare(session)
        actual = rng.randrange(0, 300)
        body = {"subject": SUBJECT, "actual": {"amount": actual}}
        event = _copies(session, "event", {"body": body}, f"{turn}")
        books.settle(SUBJECT, 0, charged_of(event, actual))
        books.compare(session)


def _copies(session: Session, do: str, members: dict[str, Any], key: str) -> Answer:
    """Send it several times at once, and once more afterwards."""
    body = {**members.get("body", {}), "idempotency_key": key}
    send = partial(session.ask, do, **{**members, "body": body})
    answers: list[Answer] = [*session.together([send] * COPIES), send()]
    first = without(answers[0].body, FRESH)
    for other in answers[1:]:
        if not same(first, without(other.body, FRESH)):
            session.fail(
                f"copies of one {do} differ: {shown(other.body)} and {shown(answers[0].body)}",
                other,
            )
    return answers[0]
