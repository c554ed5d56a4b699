"""Many clients at once on a few budgets, under each overage policy."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from cycles_conformance.assertions.ledger import amount
from cycles_conformance.properties.base import Books, Session, charged_of
from cycles_conformance.provisioners import BudgetSpec

CLIENTS = 8
ROUNDS = 4
ACTIONS = 12
"""Actions of each client in each round; between rounds everything is quiet."""

ALLOCATED = {
    "": 40_000,
    "workspace:a": 9_000,
    "workspace:a/agent:one": 2_500,
    "workspace:b": 6_000,
    "agent:two": 3_000,
}
SUBJECTS: tuple[dict[str, str], ...] = (
    {"workspace": "a", "agent": "one"},
    {"workspace": "a", "agent": "three"},
    {"workspace": "b"},
    {"agent": "two"},
    {"agent": "two", "toolset": "mail"},
)
OVERDRAFT_LIMIT = 1_500


def budgets(policy: str) -> tuple[BudgetSpec, ...]:
    limit = OVERDRAFT_LIMIT if policy == "ALLOW_WITH_OVERDRAFT" else 0
    return tuple(
        BudgetSpec("tenant", scope, "TOKENS", allocated, overdraft_limit=limit)
        for scope, allocated in ALLOCATED.items()
    )


def check(policy: str, session: Session, rng: Random) -> None:
    """Every balance adds up to what the answers said, and the policy's promises hold."""
    books = Books(ALLOCATED)
    held: list[list[tuple[str, dict[str, str], int]]] = [[] for _ in range(CLIENTS)]
    for _ in range(ROUNDS):
        clients = [
            partial(_client, session, books, policy, held[number], Random(rng.random()))  # noqa: S311
            for number in range(CLIENTS)
        ]
        session.together(clients)
        rows = books.compare(session)
        for scope, row in rows.items():
            _keep_promises(session, policy, scope, row)
        _exact_fit(session, books, rows, rng)
    # Everything comes back that is still held.
    for client in held:
        for reservation, subject, estimate in client:
            session.ask("release", path={"reservation_id": reservation})
            books.settle(subject, estimate, 0)
    books.compare(session)


def _client(
    session: Session,
    books: Books,
    policy: str,
    held: list[tuple[str, dict[str, str], int]],
    rng: Random,
) -> None:
    for _ in range(ACTIONS):
        action = rng.choice(
            ("reserve", "reserve", "commit", "commit", "release", "event", "extend")
        )
        if action == "reserve":
            subject, estimate = rng.choice(SUBJECTS), rng.choice((0, 1, 40, 150, 400))
            answer = session.ask(
                "reserve",
                status=(200, 409),
                body={
                    "subject": subject,
                    "estimate": {"amount": estimate},
                    "overage_policy": policy,
                },
            )
            if answer.status == 200:
                books.reserve(subject, estimate)
                held.append((answer.told("/reservation_id", str), subject, estimate))
        elif action == "event":
            _event(session, books, policy, rng)
        elif held:
            reservation, subject, estimate = held.pop(rng.randrange(len(held)))
            path = {"reservation_id": reservation}
            if action == "release":
                session.ask("release", path=path)
                books.settle(subject, estimate, 0)
            elif action == "extend":
                # No extensions left is a fair answer.
                session.ask("extend", status=(200, 409), path=path)
                held.append((reservation, subject, estimate))
            else:
                _commit(session, books, (reservation, subject, estimate), held, rng)


def _event(session: Session, books: Books, policy: str, rng: Random) -> None:
    subject, actual = rng.choice(SUBJECTS), rng.choice((0, 3, 90, 300))
    body = {"subject": subject, "actual": {"amount": actual}, "overage_policy": policy}
    answer = session.ask("event", status=(201, 409), body=body)
    if answer.status == 201:
        charged = charged_of(answer, actual)
        if not 0 <= charged <= actual:
            session.fail(f"an event of {actual} charged {charged}", answer)
        books.settle(subject, 0, charged)


def _commit(
    session: Session,
    books: Books,
    reservation: tuple[str, dict[str, str], int],
    held: list[tuple[str, dict[str, str], int]],
    rng: Random,
) -> None:
    reservation_id, subject, estimate = reservation
    actual = max(0, estimate + rng.choice((0, 0, -estimate, -7, 1, 60, 500)))
    answer = session.ask(
        "commit",
        status=(200, 409),
        path={"reservation_id": reservation_id},
        body={"actual": {"amount": actual}},
    )
    if answer.status != 200:
        if actual <= estimate:
            session.fail(f"a commit of {actual} on {estimate} reserved was refused", answer)
        held.append(reservation)
        return
    charged = charged_of(answer, actual)
    if not min(estimate, actual) <= charged <= actual:
        session.fail(f"a commit of {actual} on {estimate} reserved charged {charged}", answer)
    books.settle(subject, estimate, charged)


def _keep_promises(session: Session, policy: str, scope: str, row: dict[str, Any] | Any) -> None:
    name = row["scope_path"]
    remaining, debt = amount(row, "remaining") or 0, amount(row, "debt") or 0
    over = row.get("is_over_limit", False)
    if policy != "ALLOW_WITH_OVERDRAFT":
        if debt:
            session.fail(f"{name}: debt {debt} under {policy}")
        if remaining < 0:
            session.fail(f"{name}: remaining {remaining} under {policy}: oversubscribed")
    elif debt > OVERDRAFT_LIMIT and not over:
        session.fail(f"{name}: debt {debt} above its limit {OVERDRAFT_LIMIT}, and not over limit")
    if policy == "REJECT" and over:
        session.fail(f"{name}: over its limit under {policy}")


def _exact_fit(session: Session, books: Books, rows: Any, rng: Random) -> None:
    """At a quiet point: one more than is left is refused, and just what is left is granted."""
    subject = rng.choice(SUBJECTS)
    scopes = [rows[scope] for scope in books.scopes(subject)]
    blocked = any(row.get("is_over_limit") or amount(row, "debt") for row in scopes)
    left = min(amount(row, "remaining") or 0 for row in scopes)
    if left < 0:
        return
    body: dict[str, Any] = {"subject": subject, "estimate": {"amount": left + 1}}
    session.ask("reserve", status=(409,), body=body)
    if blocked:
        return
    body["estimate"] = {"amount": left}
    answer = session.ask("reserve", status=(200,), body=body)
    session.ask("release", path={"reservation_id": answer.told("/reservation_id", str)})
    books.compare(session)
