"""What every property check has: requests, and books of what the answers say was done."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cycles_conformance.assertions.ledger import amount, invariant
from cycles_conformance.casefiles.case import Case
from cycles_conformance.casefiles.given import DEFAULT_UNIT, SCOPE_LEVELS
from cycles_conformance.client import Answer
from cycles_conformance.execution.balances import read_balances
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.request import ask
from cycles_conformance.planes import RUNTIME, OperationRef, operations_of_runtime
from cycles_conformance.provisioners import BudgetSpec, Given, KeySpec, TenantSpec
from cycles_conformance.results import CaseResult, Level
from cycles_conformance.target import Target

OPERATIONS = operations_of_runtime(
    {"createReservation", "commitReservation", "releaseReservation", "extendReservation"}
    | {"createEvent", "getBalances"}
)


@dataclass(frozen=True)
class Property:
    """One property; ``check`` raises CaseEnded at the first problem."""

    id: str
    level: Level
    clauses: tuple[str, ...]
    why: str
    given: Given
    check: Callable[[Session, Random], None]
    operations: frozenset[OperationRef] = OPERATIONS
    planes: frozenset[str] = frozenset({RUNTIME})
    area: str = "properties"
    requires: tuple[str, ...] = ()

    def execute(self, target: Target, result: CaseResult, seed: int) -> None:
        """Raises ProvisioningError, TargetLost, CaseEnded, CaseUnjudged, UnusableAnswer, and
        KitFailed for whatever else goes wrong."""
        case = Case(
            id=self.id,
            area=self.area,
            level=self.level,
            clauses=self.clauses,
            why=self.why,
            requires=self.requires,
            given=self.given,
            variables={},
            steps=(),
            operations=self.operations,
            planes=self.planes,
        )
        prepared = target.prepare(self.given)
        context = CaseContext(target, case, prepared, result)
        session = Session(context)
        with context.within("property"):
            # The name too: two properties of one run must not draw the same numbers.
            self.check(session, Random(f"{seed} {self.id}"))  # noqa: S311


def given(*budgets: BudgetSpec, tenants: Sequence[str] = ("tenant",)) -> Given:
    return Given(
        tuple(TenantSpec(name) for name in tenants),
        tuple(KeySpec(name, name) for name in tenants),
        budgets,
    )


@dataclass(frozen=True)
class Session:
    """Sends requests for one property. Safe to use from several threads."""

    context: CaseContext

    def ask(
        self, do: str, *, who: str = "tenant", status: Sequence[int] = (), **members: Any
    ) -> Answer:
        """One request of a template. ``status``: what may come back (default 2xx). Raises
        CaseEnded."""
        expect = {"status": list(status) if status else "2xx"}
        step = {"do": do, "as": who, "expect": expect, **members}
        return ask(self.context, step, do)

    def together(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do all at once and return what each returned. Raises what the first of them raised."""
        ready = threading.Barrier(len(works))

        def begin(work: Callable[[], Any]) -> Any:
            ready.wait()
            return work()

        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            futures = [pool.submit(begin, work) for work in works]
        return [future.result() for future in futures]

    def fail(self, message: str, answer: Answer | None = None) -> None:
        """Raises CaseEnded."""
        self.context.fail([self.context.problem(message, "property", answer)])


@dataclass
class Books:
    """What the answers say was done in one tenant, to be held against its balances.

    Amounts by scope path below the tenant. Safe to use from several threads.
    """

    budgets: Mapping[str, int]
    """Allocation by scope path below the tenant (empty for the tenant itself)."""
    reserved: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    """Charged: spent and debt together."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, subject: Mapping[str, str], estimate: int) -> None:
        with self._lock:
            for scope in self.scopes(subject):
                self.reserved[scope] += estimate

    def settle(self, subject: Mapping[str, str], estimate: int, charged: int) -> None:
        """A commit; with ``charged`` 0 also a release."""
        with self._lock:
            for scope in self.scopes(subject):
                self.reserved[scope] -= estimate
                self.used[scope] += charged

    def scopes(self, subject: Mapping[str, str]) -> list[str]:
        """The budgeted scopes of a subject below its tenant, in the contract's order of levels."""
        path, paths = "", [""]
        for level in SCOPE_LEVELS[1:]:
            if level in subject:
                path += ("/" if path else "") + f"{level}:{subject[level]}"
                paths.append(path)
        return [scope for scope in paths if scope in self.budgets]

    def rows(self, session: Session, tenant: str = "tenant") -> dict[str, Mapping[str, Any]]:
        """The balances by scope path below the tenant, each one held against the ledger
        invariant. Raises CaseEnded."""
        prefix = f"tenant:{session.context.prepared.tenants[tenant]}"
        found, _ = read_balances(session.context, tenant, self.budgets, "balances")
        rows = {
            row["scope_path"].removeprefix(prefix).removeprefix("/"): row
            for row in found
            if row["remaining"]["unit"] == DEFAULT_UNIT
        }
        for scope in self.budgets:
            if scope not in rows:
                session.fail(f"no balance for {prefix}/{scope}".removesuffix("/"))
        for row in rows.values():
            for problem in invariant(row):
                session.fail(problem)
        return rows

    def compare(self, session: Session, tenant: str = "tenant") -> dict[str, Mapping[str, Any]]:
        """Hold the books against the balances, when nothing is under way. Returns the balances as
        ``rows`` does. Raises CaseEnded."""
        rows = self.rows(session, tenant)
        for scope, allocated in self.budgets.items():
            row = rows[scope]
            name = row["scope_path"]
            expected = {
                "allocated": allocated,
                "reserved": self.reserved[scope],
                "remaining": allocated - self.reserved[scope] - self.used[scope],
            }
            for member, value in expected.items():
                told = amount(row, member)
                if told is not None and told != value:
                    session.fail(f"{name}: {member} is {told}, by the answers it should be {value}")
        return rows


def charged_of(answer: Answer, asked: int) -> int:
    """What a commit or event says it charged; an event that was not capped need not say."""
    charged = answer.maybe("/charged/amount", int)
    return asked if charged is None else charged


__all__ = ["Books", "Property", "Session", "charged_of", "given"]
