"""One client at random over every operation, each balance foretold from the ones before.

No model of the whole server: what a single action may do to the ledger follows from the balances
before it and from the contract, so the walk needs to know no more than one action at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cycles_conformance.assertions.ledger import amount
from cycles_conformance.assertions.matching import same, shown
from cycles_conformance.casefiles.given import DEFAULT_UNIT
from cycles_conformance.client import Answer
from cycles_conformance.properties.base import Books, Session, charged_of
from cycles_conformance.provisioners import BudgetSpec
from cycles_conformance.values import without

STEPS = 90
FRESH = ["/remaining_ttl_ms"]


@dataclass(frozen=True)
class Scenario:
    """Where a walk takes place."""

    allocated: dict[str, int]
    subjects: tuple[dict[str, str], ...]
    amounts: tuple[int, ...]
    policies: tuple[str, ...]
    overdraft_limit: int = 0

    def budgets(self) -> tuple[BudgetSpec, ...]:
        return tuple(
            BudgetSpec(
                "tenant", scope, DEFAULT_UNIT, allocated, overdraft_limit=self.overdraft_limit
            )
            for scope, allocated in self.allocated.items()
        )


SUBJECTS: tuple[dict[str, str], ...] = (
    {"workspace": "a", "agent": "one"},
    {"workspace": "a", "app": "mail", "agent": "one"},
    {"workspace": "b", "toolset": "web"},
    {"workflow": "w"},
)
CAPPED = Scenario(
    {
        "": 30_000,
        "workspace:a": 8_000,
        "workspace:a/agent:one": 4_000,
        "workspace:b": 2_500,
        "workflow:w": 1_200,
    },
    SUBJECTS,
    (0, 1, 2, 99, 250, 700, 1_300),
    ("REJECT", "REJECT", "ALLOW_IF_AVAILABLE"),
)
OVERDRAWN = Scenario(
    {"": 6_000}, ({},), (0, 1, 90, 400, 1_000), ("ALLOW_WITH_OVERDRAFT",), overdraft_limit=1_500
)
LARGE = Scenario(
    {"": 2**63 - 1, "workspace:a": 2**62, "workspace:a/agent:one": 2**61 + 2**53 + 1},
    SUBJECTS[:2],
    (1, 2**53 - 1, 2**53 + 1, 2**54 + 3, 10**17 + 7, 2**58 + 1),
    ("REJECT", "ALLOW_IF_AVAILABLE"),
)


@dataclass
class State:
    """One budget as the server tells it."""

    reserved: int
    remaining: int
    debt: int
    over: bool


Ledger = dict[str, State]
BLOCKED = ("OVERDRAFT_LIMIT_EXCEEDED", "DEBT_OUTSTANDING")


def copied(ledger: Ledger) -> Ledger:
    return {scope: State(**vars(state)) for scope, state in ledger.items()}


@dataclass
class Lease:
    reservation_id: str
    scopes: list[str]
    subject: dict[str, str]
    estimate: int
    policy: str
    expires: int | None
    """As far as the server has told."""
    status: str = "ACTIVE"
    charged: int | None = None


@dataclass
class Action:
    """A request that succeeded, for replays."""

    do: str
    members: dict[str, Any]
    answer: Answer


@dataclass
class Walk:
    scenario: Scenario
    session: Session
    rng: Random
    leases: list[Lease] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)

    def go(self) -> None:
        books = Books(self.scenario.allocated)
        before = self._look(books)
        actions: list[Callable[[Ledger], Ledger]] = [
            self._reserve, self._reserve, self._reserve, self._commit, self._commit,
            self._release, self._extend, self._event, self._ask, self._replay,
            self._mismatch, self._finished, self._get,
        ]  # fmt: skip
        for number in range(STEPS):
            action = self.rng.choice(actions)
            expected = action(copied(before))
            after = self._look(books, expected)
            for scope, state in expected.items():
                if after[scope] != state:
                    name = scope or "the tenant"
                    self.session.fail(
                        f"action {number} ({action.__name__.strip('_')}): the balance of {name} is "
                        f"{vars(after[scope])}, it should be {vars(state)}",
                        self.done[-1].answer if self.done else None,
                    )
            before = after

    # -- actions: each takes the ledger before and returns what it must be afterwards -------------

    def _reserve(self, ledger: Ledger) -> Ledger:
        subject, estimate = self.rng.choice(self.scenario.subjects), self._amount()
        policy = self.rng.choice(self.scenario.policies)
        body = {
            "subject": subject,
            "estimate": {"amount": estimate},
            "overage_policy": policy,
            # No lease may run out on the way, however slow the server is.
            "ttl_ms": 3_600_000,
            "idempotency_key": self._key(),
        }
        scopes = self._scopes(subject)
        refusals = self._refusals(ledger, scopes, estimate)
        answer = self.session.ask("reserve", status=(200, 409), body=body)
        self._allowed(answer, refusals)
        if answer.status != 200:
            return ledger
        self._remember("reserve", {"body": body}, answer)
        for scope in scopes:
            ledger[scope].reserved += estimate
            ledger[scope].remaining -= estimate
        self.leases.append(
            Lease(
                answer.told("/reservation_id", str), scopes, subject, estimate, policy,
                answer.maybe("/expires_at_ms", int),
            )
        )  # fmt: skip
        return ledger

    def _ask(self, ledger: Ledger) -> Ledger:
        """decide, or a dry run: the same judgement, and nothing done."""
        subject, estimate = self.rng.choice(self.scenario.subjects), self._amount()
        refusals = self._refusals(ledger, self._scopes(subject), estimate)
        body: dict[str, Any] = {"subject": subject, "estimate": {"amount": estimate}}
        do = "decide"
        if self.rng.random() < 0.5:
            do, body["dry_run"] = "reserve", True
        answer = self.session.ask(do, status=(200,), body=body)
        decision, code = answer.told("/decision", str), answer.maybe("/reason_code", str)
        denied = decision == "DENY"
        # The reason is a recommendation; where it is told, it must be true.
        if (denied and refusals == {None}) or (not denied and None not in refusals):
            self.session.fail(f"decision {decision}, expected by {refusals}", answer)
        if denied and code is not None and code not in refusals:
            self.session.fail(f"reason_code is {code}, expected one of {refusals}", answer)
        return ledger

    def _commit(self, ledger: Ledger) -> Ledger:
        lease = self._active()
        if lease is None:
            return ledger
        actual = self.rng.choice((lease.estimate, self._amount(), lease.estimate // 2))
        members: dict[str, Any] = {
            "path": {"reservation_id": lease.reservation_id},
            "body": {"actual": {"amount": actual}, "idempotency_key": self._key()},
        }
        code, charged = self._charge(ledger, lease.scopes, lease.policy, lease.estimate, actual)
        answer = self.session.ask("commit", status=(409 if code else 200,), **members)
        if code:
            self._allowed(answer, {code})
            return ledger
        self._remember("commit", members, answer)
        told = answer.told("/charged/amount", int)
        if told != charged:
            self.session.fail(f"charged is {told}, expected {charged}", answer)
        released, rest = answer.maybe("/released/amount", int), max(0, lease.estimate - charged)
        # It need not be told.
        if released is not None and released != rest:
            self.session.fail(f"released is {released}, expected {rest}", answer)
        lease.status, lease.charged = "COMMITTED", charged
        return ledger

    def _event(self, ledger: Ledger) -> Ledger:
        subject, actual = self.rng.choice(self.scenario.subjects), self._amount()
        policy = self.rng.choice(self.scenario.policies)
        scopes = self._scopes(subject)
        # Whether an event on a blocked scope is refused is a matter of reading.
        blocked = any(ledger[scope].over or ledger[scope].debt for scope in scopes)
        untouched = copied(ledger)
        code, charged = self._charge(ledger, scopes, policy, 0, actual, event=True)
        members: dict[str, Any] = {
            "body": {
                "subject": subject,
                "actual": {"amount": actual},
                "overage_policy": policy,
                "idempotency_key": self._key(),
            }
        }
        answer = self.session.ask("event", status=(201, 409), **members)
        if answer.status == 409:
            self._allowed(answer, {code} if not blocked else {code, *BLOCKED})
            return untouched
        if code:
            self.session.fail(f"status 201, expected 409 {code}", answer)
        self._remember("event", members, answer)
        # Where all of it was charged, it need not be told.
        told = charged_of(answer, actual)
        if told != charged:
            self.session.fail(f"charged is {told}, expected {charged}", answer)
        return ledger

    def _release(self, ledger: Ledger) -> Ledger:
        lease = self._active()
        if lease is None:
            return ledger
        path = {"reservation_id": lease.reservation_id}
        members: dict[str, Any] = {"path": path, "body": {"idempotency_key": self._key()}}
        answer = self.session.ask("release", **members)
        self._remember("release", members, answer)
        if answer.told("/released/amount", int) != lease.estimate:
            self.session.fail(f"released is not the {lease.estimate} that were held", answer)
        for scope in lease.scopes:
            ledger[scope].reserved -= lease.estimate
            ledger[scope].remaining += lease.estimate
        lease.status = "RELEASED"
        return ledger

    def _extend(self, ledger: Ledger) -> Ledger:
        lease = self._active()
        if lease is None:
            return ledger
        by = self.rng.randrange(1, 100_000)
        members: dict[str, Any] = {
            "path": {"reservation_id": lease.reservation_id},
            "body": {"extend_by_ms": by, "idempotency_key": self._key()},
        }
        answer = self.session.ask("extend", status=(200, 409), **members)
        if answer.status == 409:
            self._allowed(answer, {"MAX_EXTENSIONS_EXCEEDED"})
            return ledger
        self._remember("extend", members, answer)
        expires = answer.told("/expires_at_ms", int)
        # A server may grant less than was asked for.
        if lease.expires is not None and not lease.expires <= expires <= lease.expires + by:
            self.session.fail(
                f"expires_at_ms is {expires}, was {lease.expires}, asked {by}", answer
            )
        lease.expires = expires
        return ledger

    def _replay(self, ledger: Ledger) -> Ledger:
        if not self.done:
            return ledger
        action = self.rng.choice(self.done)
        answer = self.session.ask(action.do, status=(action.answer.status,), **action.members)
        one, other = without(action.answer.body, FRESH), without(answer.body, FRESH)
        if not same(one, other):
            self.session.fail(
                f"a replayed {action.do} differs: {shown(other)}, was {shown(one)}", answer
            )
        return ledger

    def _mismatch(self, ledger: Ledger) -> Ledger:
        """An old key with another body. A server may take a key for each reservation apart."""
        if not self.done:
            return ledger
        action = self.rng.choice(self.done)
        body = dict(action.members["body"])
        if action.do == "reserve":
            body["estimate"] = {"amount": body["estimate"]["amount"] + 1}
        elif action.do == "extend":
            body["extend_by_ms"] += 1
        elif action.do == "release":
            body["reason"] = "another"
        else:
            body["actual"] = {"amount": body["actual"]["amount"] + 1}
        answer = self.session.ask(action.do, status=(409,), **{**action.members, "body": body})
        codes: set[str | None] = {"IDEMPOTENCY_MISMATCH"}
        if action.do == "extend":
            # Of a reservation that has ended meanwhile, either can be said.
            codes.add("RESERVATION_FINALIZED")
        self._allowed(answer, codes)
        return ledger

    def _finished(self, ledger: Ledger) -> Ledger:
        """Nothing more can be done with what has ended."""
        ended = [lease for lease in self.leases if lease.status != "ACTIVE"]
        if not ended:
            return ledger
        path = {"reservation_id": self.rng.choice(ended).reservation_id}
        do = self.rng.choice(("commit", "release", "extend"))
        answer = self.session.ask(do, status=(409,), path=path)
        self._allowed(answer, {"RESERVATION_FINALIZED"})
        return ledger

    def _get(self, ledger: Ledger) -> Ledger:
        if not self.leases:
            return ledger
        lease = self.rng.choice(self.leases)
        answer = self.session.ask("get", path={"reservation_id": lease.reservation_id})
        expected: dict[str, Any] = {
            "status": lease.status,
            "reserved": {"unit": DEFAULT_UNIT, "amount": lease.estimate},
        }
        if lease.expires is not None:
            expected["expires_at_ms"] = lease.expires
        if lease.charged is not None:
            expected["committed"] = {"unit": DEFAULT_UNIT, "amount": lease.charged}
        for name, value in expected.items():
            told = answer.maybe(f"/{name}", object)
            if not same(told, value):
                self.session.fail(f"{name} is {shown(told)}, expected {shown(value)}", answer)
        return ledger

    # -- what the contract foretells --------------------------------------------------------------

    def _refusals(self, ledger: Ledger, scopes: list[str], estimate: int) -> set[str | None]:
        """Why a reservation may be refused; None among them: it may be granted."""
        states = [ledger[scope] for scope in scopes]
        if any(state.over for state in states):
            return {"OVERDRAFT_LIMIT_EXCEEDED"}
        short = any(state.remaining < estimate for state in states)
        refusals: set[str | None] = {"BUDGET_EXCEEDED"} if short else {None}
        if any(state.debt for state in states):
            # Whether a positive limit permits debt is a matter of reading.
            refusals.add("DEBT_OUTSTANDING")
        return refusals

    def _charge(
        self,
        ledger: Ledger,
        scopes: list[str],
        policy: str,
        estimate: int,
        actual: int,
        *,
        event: bool = False,
    ) -> tuple[str | None, int]:
        """Why a charge is refused, or how much it is; the ledger is changed accordingly."""
        delta = max(0, actual - estimate)
        states = [ledger[scope] for scope in scopes]
        least = max(0, min(state.remaining for state in states))
        debt = 0
        if policy == "REJECT":
            # An event has no estimate to stay within: it needs the budget, and no more.
            if delta > (least if event else 0):
                return "BUDGET_EXCEEDED", 0
        elif delta > least and policy == "ALLOW_WITH_OVERDRAFT" and self.scenario.overdraft_limit:
            if any(state.debt + delta > self.scenario.overdraft_limit for state in states):
                return "OVERDRAFT_LIMIT_EXCEEDED", 0
            debt = delta
        elif delta > least:
            for state in states:
                state.over = state.over or state.remaining < delta
            delta = least
        charged = min(actual, estimate) + delta
        for state in states:
            state.reserved -= estimate
            state.remaining += estimate - charged
            state.debt += debt
        return None, charged

    # -- small things -----------------------------------------------------------------------------

    def _look(self, books: Books, expected: Ledger | None = None) -> Ledger:
        """The balances. Holds them against the invariant. What is reserved need not be told, and
        is then what is ``expected``."""
        rows = books.rows(self.session)

        def reserved(scope: str, row: Mapping[str, Any]) -> int:
            told = amount(row, "reserved")
            if told is None:
                return expected[scope].reserved if expected else 0
            return told

        return {
            scope: State(
                reserved=reserved(scope, row),
                remaining=amount(row, "remaining") or 0,
                debt=amount(row, "debt") or 0,
                over=row.get("is_over_limit", False),
            )
            for scope, row in rows.items()
        }

    def _scopes(self, subject: dict[str, str]) -> list[str]:
        return Books(self.scenario.allocated).scopes(subject)

    def _allowed(self, answer: Answer, codes: set[str | None]) -> None:
        code = answer.maybe("/error", str) if answer.status == 409 else None
        if code not in codes:
            self.session.fail(f"status {answer.status} {code}, expected one of {codes}", answer)

    def _active(self) -> Lease | None:
        active = [lease for lease in self.leases if lease.status == "ACTIVE"]
        return self.rng.choice(active) if active else None

    def _amount(self) -> int:
        return self.rng.choice(self.scenario.amounts)

    def _key(self) -> str:
        return f"walk-{self.rng.getrandbits(48):x}"

    def _remember(self, do: str, members: dict[str, Any], answer: Answer) -> None:
        self.done.append(Action(do, members, answer))


def check(scenario: Scenario, session: Session, rng: Random) -> None:
    Walk(scenario, session, rng).go()
