"""Two tenants at work at the same time, with the same names and the same keys."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from cycles_conformance.properties.base import Books, Session
from cycles_conformance.provisioners import BudgetSpec

TENANTS = ("tenant", "other")
CLIENTS = 4
ACTIONS = 12
ALLOCATED = {"": 1_000_000, "workspace:same": 500_000}
SUBJECT = {"workspace": "same"}


def budgets() -> tuple[BudgetSpec, ...]:
    return tuple(
        BudgetSpec(tenant, scope, "TOKENS", allocated)
        for tenant in TENANTS
        for scope, allocated in ALLOCATED.items()
    )


def check(session: Session, rng: Random) -> None:
    """What one does is seen by that one alone, and reaches its own budgets alone."""
    books = {tenant: Books(ALLOCATED) for tenant in TENANTS}
    found: dict[str, list[str]] = {tenant: [] for tenant in TENANTS}
    seeds = [rng.random() for _ in range(CLIENTS)]
    clients = [
        partial(_client, session, books[who], found[who], who, number, Random(seeds[number]))  # noqa: S311
        for who in TENANTS
        for number in range(CLIENTS)
    ]
    session.together(clients)
    if both := set(found["tenant"]) & set(found["other"]):
        session.fail(f"two tenants were given the same reservation: {sorted(both)[0]}")
    for who in TENANTS:
        books[who].compare(session, who)
    for who, stranger in (TENANTS, TENANTS[::-1]):
        for reservation in rng.sample(found[who], min(3, len(found[who]))):
            path = {"reservation_id": reservation}
            for do in ("get", "commit", "release", "extend"):
                session.ask(do, who=stranger, status=(403,), path=path)
    for who in TENANTS:
        books[who].compare(session, who)


def _client(
    session: Session, books: Books, found: list[str], who: str, number: int, rng: Random
) -> None:
    """Both tenants' clients of one number draw the same actions and use the same keys."""
    for action in range(ACTIONS):
        estimate = rng.randrange(1, 200)
        body: dict[str, Any] = {
            "idempotency_key": f"{number}-{action}",
            "subject": SUBJECT,
            "estimate": {"amount": estimate},
        }
        answer = session.ask("reserve", who=who, body=body)
        books.reserve(SUBJECT, estimate)
        reservation = answer.told("/reservation_id", str)
        found.append(reservation)
        path = {"reservation_id": reservation}
        end = rng.choice(("commit", "release", "keep"))
        if end == "commit":
            actual = rng.randrange(0, estimate + 1)
            body = {"idempotency_key": f"{number}-{action}", "actual": {"amount": actual}}
            session.ask("commit", who=who, path=path, body=body)
            books.settle(SUBJECT, estimate, actual)
        elif end == "release":
            body = {"idempotency_key": f"{number}-{action}"}
            session.ask("release", who=who, path=path, body=body)
            books.settle(SUBJECT, estimate, 0)
