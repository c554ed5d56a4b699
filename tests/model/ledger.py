"""An in-memory model of the runtime plane: what each operation must answer, and why.

The model is written from the protocol contract alone and shares no code with the server, so that
a test can run the same requests through both and compare. It keeps the ledger in plain Python
integers, takes its time from a settable clock, and returns for every call the response that the
server has to give. Identifiers come from the server: pass the observed one and both stay in step.

What the model leaves out: schema validation (bodies are assumed valid, except for the rules on
subjects that the contract states in prose), paging and sorting, evidence, headers, error messages.
Comments that start with ``Open:`` mark a choice that the contract does not make.

Reading order: budgets and reservations (the state), the overage rule (the arithmetic), then
``LedgerModel`` (the operations, each in the order of its checks).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
LEVELS = ("tenant", "workspace", "app", "workflow", "agent", "toolset")
SEGMENT = re.compile(r"[a-zA-Z0-9_.-]+")

DEFAULT_TTL_MS = 60_000
DEFAULT_GRACE_MS = 5_000
DEFAULT_MAX_TTL_MS = 3_600_000
DEFAULT_MAX_EXTENSIONS = 10
DEFAULT_OVERAGE_POLICY = "ALLOW_IF_AVAILABLE"

DAY_MS = 86_400_000
EVENT_KEY_LIFE_MS = 7 * DAY_MS
RECORD_RETENTION_MS = 30 * DAY_MS

# Open: no document names the code for a change that would leave int64 on this plane.
OVERFLOW_CODE = "BUDGET_EXCEEDED"

HTTP_STATUS = {
    "INVALID_REQUEST": 400,
    "UNIT_MISMATCH": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "RESERVATION_EXPIRED": 410,
    "INTERNAL_ERROR": 500,
}
"""Every error code that is not a 409."""


@dataclass(frozen=True)
class Outcome:
    """One expected response. ``error`` is the code of a failure, None for a success."""

    status: int
    body: Json
    error: str | None = None


def success(body: Json, status: int = 200) -> Outcome:
    return Outcome(status, body)


def failure(code: str, details: Json | None = None) -> Outcome:
    """An error response: its status follows from the code (ERROR SEMANTICS)."""
    body: Json = {"error": code}
    if details is not None:
        body["details"] = details
    return Outcome(HTTP_STATUS.get(code, 409), body, code)


def amount_of(unit: str, amount: int) -> Json:
    return {"unit": unit, "amount": amount}


def canonical_form(body: Mapping[str, Any]) -> str:
    """The form in which two requests are compared (IDEMPOTENCY): no key order, no white space.

    Defaults are not filled in, so a member spelled out differs from the same member left out. An
    event's ``client_time_ms`` must not bear on idempotency.
    """
    compared = {name: value for name, value in body.items() if name != "client_time_ms"}
    return json.dumps(compared, sort_keys=True, separators=(",", ":"))


# --------------------------------------------------------------------------------------------
# State
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """The ledger of one (scope, unit). Changes make a new value; the model stores it."""

    scope: str
    unit: str
    allocated: int
    remaining: int
    reserved: int = 0
    spent: int = 0
    debt: int = 0
    overdraft_limit: int = 0
    is_over_limit: bool = False
    status: str = "ACTIVE"
    tenant_id: str | None = None
    caps: Json | None = None
    commit_overage_policy: str | None = None
    made_anew: bool = False
    """True if ACTIVE reservations held an earlier budget of this scope and unit."""

    @property
    def is_closed(self) -> bool:
        return self.status == "CLOSED"

    def belongs_to(self, tenant: str) -> bool:
        """A budget counts for its own tenant only; without an owner, for the scope's tenant."""
        if self.tenant_id is not None:
            return self.tenant_id == tenant
        return self.scope.split("/")[0] == f"tenant:{tenant.lower()}"

    def hold_of(self, estimate: int) -> int:
        """What is still held here for a reservation of ``estimate``.

        Closing a budget returned its holds, and a budget made anew never had them.
        """
        return 0 if self.is_closed else min(estimate, self.reserved)

    def fits_int64(self) -> bool:
        amounts = (self.allocated, self.remaining, self.reserved, self.spent, self.debt)
        return all(INT64_MIN <= amount <= INT64_MAX for amount in amounts)

    def with_hold(self, amount: int) -> Budget:
        """Reserve: from remaining into reserved."""
        return replace(self, reserved=self.reserved + amount, remaining=self.remaining - amount)

    def without_hold(self, estimate: int) -> Budget:
        """Release, expiry: what is still held goes back to remaining."""
        return self.with_hold(-self.hold_of(estimate))

    def to_balance(self) -> Json:
        """The Balance on the wire: ``scope`` is the leaf; zero debt, limit, flag are left out."""
        balance: Json = {
            "scope": self.scope.rsplit("/", 1)[-1],
            "scope_path": self.scope,
            "remaining": amount_of(self.unit, self.remaining),
            "reserved": amount_of(self.unit, self.reserved),
            "spent": amount_of(self.unit, self.spent),
            "allocated": amount_of(self.unit, self.allocated),
        }
        if self.debt:
            balance["debt"] = amount_of(self.unit, self.debt)
        if self.overdraft_limit:
            balance["overdraft_limit"] = amount_of(self.unit, self.overdraft_limit)
        # "True when debt > overdraft_limit", also where a limit was lowered and no flag followed.
        if self.is_over_limit or self.debt > self.overdraft_limit:
            balance["is_over_limit"] = True
        return balance


@dataclass
class Tenant:
    """A governance record. A status outside the three known ones stands for a corrupt record."""

    status: str = "ACTIVE"
    default_commit_overage_policy: str | None = None
    default_reservation_ttl_ms: int | None = None
    max_reservation_ttl_ms: int | None = None
    max_reservation_extensions: int | None = None


@dataclass
class IdempotencyRecord:
    """A success under a key: what was asked, what was answered, and until when it is known.

    ``expires_at_ms`` is None where the record lives with its reservation.
    """

    request: str
    outcome: Outcome
    expires_at_ms: int | None = None
    reservation: Reservation | None = None


@dataclass
class Reservation:
    reservation_id: str
    tenant: str
    request: Json
    affected_scopes: list[str]
    budgeted_scopes: list[str]
    overage_policy: str
    created_at_ms: int
    expires_at_ms: int
    grace_ms: int
    max_extensions: int
    extension_count: int = 0
    status: str = "ACTIVE"
    charged: int | None = None
    committed_metadata: Json | None = None
    ended_at_ms: int | None = None
    commit_record: tuple[str, IdempotencyRecord] | None = None
    release_record: tuple[str, IdempotencyRecord] | None = None
    extend_records: dict[str, IdempotencyRecord] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        return str(self.request["estimate"]["unit"])

    @property
    def estimate(self) -> int:
        return int(self.request["estimate"]["amount"])

    @property
    def settle_until_ms(self) -> int:
        """Commit and release are accepted through this moment, inclusive."""
        return self.expires_at_ms + self.grace_ms

    def to_summary(self) -> Json:
        """A row of listReservations: the maps of metadata stay out."""
        row: Json = {
            "reservation_id": self.reservation_id,
            "status": self.status,
            "idempotency_key": self.request["idempotency_key"],
            "subject": self.request["subject"],
            "action": self.request["action"],
            "reserved": amount_of(self.unit, self.estimate),
            "created_at_ms": self.created_at_ms,
            "expires_at_ms": self.expires_at_ms,
            "scope_path": self.affected_scopes[-1],
            "affected_scopes": self.affected_scopes,
        }
        if self.charged is not None:
            row["committed"] = amount_of(self.unit, self.charged)
        if self.status in ("COMMITTED", "RELEASED"):
            row["finalized_at_ms"] = self.ended_at_ms
        return row

    def to_detail(self) -> Json:
        """The answer of getReservation: the summary and the metadata of reserve and commit."""
        detail = self.to_summary()
        if "metadata" in self.request:
            detail["metadata"] = self.request["metadata"]
        if self.committed_metadata is not None:
            detail["committed_metadata"] = self.committed_metadata
        return detail


def is_valid_subject(subject: Mapping[str, Any]) -> bool:
    """CHARSET, and at least one standard level: a subject of dimensions alone is invalid."""
    values = [subject[level] for level in LEVELS if level in subject]
    return bool(values) and all(
        isinstance(value, str) and SEGMENT.fullmatch(value) for value in values
    )


def derive_scopes(subject: Mapping[str, Any]) -> list[str]:
    """SCOPE DERIVATION: cumulative paths over the levels given, in canonical order."""
    segments = [f"{level}:{subject[level].lower()}" for level in LEVELS if level in subject]
    return ["/".join(segments[: depth + 1]) for depth in range(len(segments))]


# --------------------------------------------------------------------------------------------
# The overage rule, one for commit (delta = actual - estimate) and event (delta = actual)
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Posting:
    """One budget that a charge goes to, with the hold it exchanges for the estimate."""

    budget: Budget
    hold: int
    estimate: int

    @property
    def available(self) -> int:
        """What may cover a delta, once the estimate is paid.

        DEBT SEMANTICS compare remaining + released reservation with the actual amount.
        Open: this matters only where the budget holds less than the estimate; the overage
        formulas say just "remaining", which could also mean the amount before the exchange.
        """
        return self.budget.remaining + self.hold - self.estimate

    @property
    def permits_debt(self) -> bool:
        return self.budget.overdraft_limit > 0

    def exceeds_limit_with(self, delta: int) -> bool:
        return self.budget.debt + delta > self.budget.overdraft_limit


@dataclass(frozen=True)
class Overage:
    """How much of a delta is charged, and what it does to which scopes."""

    delta: int
    over_limit: frozenset[str] = frozenset()
    in_debt: frozenset[str] = frozenset()


def scopes_short_of(amount: int, postings: Iterable[Posting]) -> frozenset[str]:
    return frozenset(p.budget.scope for p in postings if p.available < amount)


def capped(delta: int, postings: Sequence[Posting]) -> int:
    """The part of ``delta`` that the scarcest of the scopes can pay; all of it without scopes."""
    return max(0, min([delta, *(p.available for p in postings)]))


def allow_if_available(delta: int, postings: Sequence[Posting]) -> Overage:
    """ALLOW_IF_AVAILABLE: never refuses, never makes debt; scopes that fall short are flagged."""
    return Overage(capped(delta, postings), over_limit=scopes_short_of(delta, postings))


def allow_with_overdraft(delta: int, postings: Sequence[Posting]) -> Overage | None:
    """ALLOW_WITH_OVERDRAFT over several scopes; None if a limit would be exceeded.

    Scopes without a limit behave as under ALLOW_IF_AVAILABLE and thereby decide how much is
    charged. A scope with a limit that cannot pay this takes the whole of it as debt.
    """
    limited = [p for p in postings if p.permits_debt]
    unlimited = [p for p in postings if not p.permits_debt]
    within = allow_if_available(delta, unlimited)
    if within.delta == 0:
        return within
    borrowing = [p for p in limited if p.available < within.delta]
    if any(p.exceeds_limit_with(within.delta) for p in borrowing):
        return None
    return replace(within, in_debt=frozenset(p.budget.scope for p in borrowing))


def cover_overage(policy: str, delta: int, postings: Sequence[Posting]) -> Overage | None:
    """Apply the policy; None means OVERDRAFT_LIMIT_EXCEEDED.

    REJECT has been decided by the caller: commit refuses any delta, an event only one that some
    remaining cannot pay. A CLOSED budget neither caps nor is flagged nor takes debt.
    """
    if delta <= 0:
        return Overage(0)
    open_postings = [p for p in postings if not p.budget.is_closed]
    if policy == "ALLOW_WITH_OVERDRAFT":
        return allow_with_overdraft(delta, open_postings)
    return allow_if_available(delta, open_postings)


def after_charge(posting: Posting, charged: int, overage: Overage) -> Budget:
    """The budget once ``charged`` is booked: out of the hold and remaining, into spent or debt."""
    budget = posting.budget
    owed = overage.delta if budget.scope in overage.in_debt else 0
    return replace(
        budget,
        reserved=budget.reserved - posting.hold,
        remaining=budget.remaining + posting.hold - charged,
        spent=budget.spent + charged - owed,
        debt=budget.debt + owed,
        is_over_limit=budget.is_over_limit or budget.scope in overage.over_limit,
    )


# --------------------------------------------------------------------------------------------
# The reserve rule, one for createReservation, its dry run and decide
# --------------------------------------------------------------------------------------------


def denial(budgets: Sequence[Budget], amount: int) -> str | None:
    """The code that blocks a reservation: each check over all scopes before the next one."""
    if any(b.status == "FROZEN" for b in budgets):
        return "BUDGET_FROZEN"
    if any(b.is_closed for b in budgets):
        return "BUDGET_CLOSED"
    if any(b.is_over_limit or 0 < b.overdraft_limit < b.debt for b in budgets):
        return "OVERDRAFT_LIMIT_EXCEEDED"
    if any(b.debt > 0 and b.overdraft_limit == 0 for b in budgets):
        return "DEBT_OUTSTANDING"
    if any(b.remaining < amount for b in budgets):
        return "BUDGET_EXCEEDED"
    return None


def verdict(budgets: Sequence[Budget], scope_path: str, amount: int) -> Json:
    """ALLOW, ALLOW_WITH_CAPS (the caps of the full path's own budget) or DENY with its reason."""
    reason = denial(budgets, amount)
    if reason is not None:
        return deny(reason)
    deepest = budgets[-1]
    if deepest.scope == scope_path and deepest.caps is not None:
        return {"decision": "ALLOW_WITH_CAPS", "caps": deepest.caps}
    return {"decision": "ALLOW"}


def deny(reason_code: str) -> Json:
    return {"decision": "DENY", "reason_code": reason_code}


# --------------------------------------------------------------------------------------------
# The model
# --------------------------------------------------------------------------------------------


class LedgerModel:
    """The runtime plane. Every operation answers with an ``Outcome``; time is ``now_ms``."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self.budgets: dict[tuple[str, str], Budget] = {}
        self.tenants: dict[str, Tenant] = {}
        self.reservations: dict[str, Reservation] = {}
        self.events: dict[str, Json] = {}
        self.records: dict[tuple[str, str, str], IdempotencyRecord] = {}
        self._ids = 0

    # -- governance actions, to be mirrored by the test ------------------------------------

    def put_budget(
        self,
        scope: str,
        unit: str,
        allocated: int,
        *,
        tenant_id: str | None = None,
        spent: int = 0,
        debt: int = 0,
        overdraft_limit: int = 0,
        is_over_limit: bool = False,
        status: str = "ACTIVE",
        caps: Json | None = None,
        commit_overage_policy: str | None = None,
    ) -> Budget:
        """Create a budget, or make it anew: it holds nothing."""
        budget = Budget(
            scope=scope,
            unit=unit,
            allocated=allocated,
            remaining=allocated - spent - debt,
            spent=spent,
            debt=debt,
            overdraft_limit=overdraft_limit,
            is_over_limit=is_over_limit,
            status=status,
            tenant_id=tenant_id,
            caps=caps,
            commit_overage_policy=commit_overage_policy,
            made_anew=any(
                r.status == "ACTIVE" and r.unit == unit and scope in r.budgeted_scopes
                for r in self.reservations.values()
            ),
        )
        if not budget.fits_int64():
            raise ValueError(f"not an int64 ledger: {budget}")
        self._store([budget])
        return budget

    def fund(self, scope: str, unit: str, operation: str, amount: int, spent: int = 0) -> bool:
        """Apply a funding operation; False if it is refused, with nothing changed."""
        budget = self.budgets[scope, unit]
        if operation == "DEBIT" and budget.remaining < amount:
            return False
        funded = self._funded(budget, operation, amount, spent)
        funded = replace(funded, is_over_limit=funded.debt > funded.overdraft_limit)
        if not funded.fits_int64():
            return False
        self._store([funded])
        return True

    def freeze(self, scope: str, unit: str) -> None:
        self._set_budget_status(scope, unit, "FROZEN")

    def unfreeze(self, scope: str, unit: str) -> None:
        self._set_budget_status(scope, unit, "ACTIVE")

    def close_budget(self, scope: str, unit: str) -> None:
        """Close: what is reserved goes back to remaining."""
        budget = self.budgets[scope, unit]
        self._store([replace(budget.with_hold(-budget.reserved), status="CLOSED")])

    def delete_budget(self, scope: str, unit: str) -> None:
        del self.budgets[scope, unit]

    def put_tenant(self, tenant: str, record: Tenant) -> None:
        self.tenants[tenant] = record

    def set_tenant_status(self, tenant: str, status: str) -> None:
        """Change the status alone; the cascade of a close is the governance plane's."""
        self.tenants.setdefault(tenant, Tenant()).status = status

    # -- decide and reserve -----------------------------------------------------------------

    def decide(self, tenant: str, body: Json, *, now_ms: int | None = None) -> Outcome:
        """POST /v1/decide: the verdict of a reserve, without one."""
        self._set_clock(now_ms)
        refusal = self._refuse_caller(tenant) or self._refuse_subject(tenant, body["subject"])
        if refusal is not None:
            return refusal
        key = (tenant, "decide", body["idempotency_key"])
        closed = {**deny("TENANT_CLOSED"), "affected_scopes": derive_scopes(body["subject"])}
        early = self._screen_evaluation(key, body, closed)
        if early is not None:
            return early
        evaluation = self._evaluate(tenant, body)
        if isinstance(evaluation, Outcome):
            return evaluation
        answer = {**evaluation, "affected_scopes": derive_scopes(body["subject"])}
        return self._remember(key, body, success(answer), self.now_ms + DAY_MS)

    def reserve(
        self,
        tenant: str,
        body: Json,
        *,
        observed_id: str | None = None,
        now_ms: int | None = None,
    ) -> Outcome:
        """POST /v1/reservations: hold the estimate on every budgeted scope, or on none."""
        self._set_clock(now_ms)
        refusal = self._refuse_caller(tenant) or self._refuse_subject(tenant, body["subject"])
        if refusal is not None:
            return refusal
        if body.get("dry_run", False):
            return self._dry_run(tenant, body)
        return self._reserve_live(tenant, body, observed_id)

    def _reserve_live(self, tenant: str, body: Json, observed_id: str | None) -> Outcome:
        key = (tenant, "reserve", body["idempotency_key"])
        early = self._screen_mutation(tenant, self._record(key), body)
        if early is not None:
            return early

        scopes = derive_scopes(body["subject"])
        unit, amount = body["estimate"]["unit"], body["estimate"]["amount"]
        budgets = self._budgets_on(tenant, scopes, unit)
        if not budgets:
            return self._no_budget(tenant, scopes, unit)
        decision = verdict(budgets, scopes[-1], amount)
        if decision["decision"] == "DENY":
            return failure(decision["reason_code"])

        overage_policy = self._overage_policy(tenant, body, budgets)
        self._store([budget.with_hold(amount) for budget in budgets])
        ttl_ms = self._effective_ttl(tenant, body)
        reservation = Reservation(
            reservation_id=self._new_id(observed_id),
            tenant=tenant,
            request=copy.deepcopy(body),
            affected_scopes=scopes,
            budgeted_scopes=[budget.scope for budget in budgets],
            overage_policy=overage_policy,
            created_at_ms=self.now_ms,
            expires_at_ms=self.now_ms + ttl_ms,
            grace_ms=body.get("grace_period_ms", DEFAULT_GRACE_MS),
            max_extensions=self._max_extensions(tenant),
        )
        self.reservations[reservation.reservation_id] = reservation
        answer = {
            **decision,
            "reservation_id": reservation.reservation_id,
            "reserved": amount_of(unit, amount),
            "expires_at_ms": reservation.expires_at_ms,
            "remaining_ttl_ms": ttl_ms,
            "scope_path": scopes[-1],
            "affected_scopes": scopes,
            "balances": self._balances_of(reservation),
        }
        return self._remember(key, body, success(answer), reservation=reservation)

    def _dry_run(self, tenant: str, body: Json) -> Outcome:
        """DRY-RUN RESPONSE RULES: as if live, nothing kept but the idempotency record."""
        scopes = derive_scopes(body["subject"])
        estimate = body["estimate"]
        context = {
            "scope_path": scopes[-1],
            "affected_scopes": scopes,
            # Open: also on DENY, then perhaps an empty list.
            "balances": [
                budget.to_balance() for budget in self._budgets_on(tenant, scopes, estimate["unit"])
            ],
        }
        key = (tenant, "reserve", body["idempotency_key"])
        early = self._screen_evaluation(key, body, {**deny("TENANT_CLOSED"), **context})
        if early is not None:
            return early
        evaluation = self._evaluate(tenant, body)
        if isinstance(evaluation, Outcome):
            return evaluation
        answer = {**evaluation, **context}
        if evaluation["decision"] != "DENY":
            answer["reserved"] = amount_of(estimate["unit"], estimate["amount"])
        return self._remember(key, body, success(answer), self.now_ms + DAY_MS)

    def _evaluate(self, tenant: str, body: Json) -> Json | Outcome:
        """The verdict without a change. A missing budget denies, a wrong unit is a 400."""
        scopes = derive_scopes(body["subject"])
        unit, amount = body["estimate"]["unit"], body["estimate"]["amount"]
        budgets = self._budgets_on(tenant, scopes, unit)
        if budgets:
            return verdict(budgets, scopes[-1], amount)
        missing = self._no_budget(tenant, scopes, unit)
        return deny("BUDGET_NOT_FOUND") if missing.error == "NOT_FOUND" else missing

    # -- commit, release, extend, expire ----------------------------------------------------

    def commit(
        self, tenant: str, reservation_id: str, body: Json, *, now_ms: int | None = None
    ) -> Outcome:
        """POST …/commit: exchange the hold for the actual amount, overage by the policy."""
        self._set_clock(now_ms)
        reservation = self._owned(tenant, reservation_id)
        if isinstance(reservation, Outcome):
            return reservation
        record = self._record_of(reservation.commit_record, body)
        early = self._screen_mutation(tenant, record, body) or self._refuse_to_settle(reservation)
        if early is not None:
            return early
        unit, actual = body["actual"]["unit"], body["actual"]["amount"]
        if unit != reservation.unit:
            return self._wrong_commit_unit(reservation, unit)

        delta = max(0, actual - reservation.estimate)
        if delta > 0 and reservation.overage_policy == "REJECT":
            return failure("BUDGET_EXCEEDED")
        postings = [
            Posting(budget, budget.hold_of(reservation.estimate), reservation.estimate)
            for budget in self._budgets_of(reservation)
        ]
        overage = cover_overage(reservation.overage_policy, delta, postings)
        if overage is None:
            return failure("OVERDRAFT_LIMIT_EXCEEDED")
        charged = min(actual, reservation.estimate) + overage.delta
        if not self._charge(postings, charged, overage):
            return failure(OVERFLOW_CODE)

        reservation.charged = charged
        reservation.committed_metadata = copy.deepcopy(body.get("metadata"))
        self._end(reservation, "COMMITTED")
        answer: Json = {"status": "COMMITTED", "charged": amount_of(unit, charged)}
        if charged < reservation.estimate:
            # Open: told as estimate - charged even where a close had returned the hold before.
            answer["released"] = amount_of(unit, reservation.estimate - charged)
        answer["balances"] = self._balances_of(reservation)
        reservation.commit_record = self._own_record(reservation, body, success(answer))
        return self._replayed(reservation.commit_record[1])

    def release(
        self, tenant: str, reservation_id: str, body: Json, *, now_ms: int | None = None
    ) -> Outcome:
        """POST …/release: the whole hold goes back."""
        self._set_clock(now_ms)
        reservation = self._owned(tenant, reservation_id)
        if isinstance(reservation, Outcome):
            return reservation
        record = self._record_of(reservation.release_record, body)
        early = self._screen_mutation(tenant, record, body) or self._refuse_to_settle(reservation)
        if early is not None:
            return early

        self._return_hold(reservation)
        self._end(reservation, "RELEASED")
        answer = {
            "status": "RELEASED",
            "released": amount_of(reservation.unit, reservation.estimate),
            "balances": self._balances_of(reservation),
        }
        reservation.release_record = self._own_record(reservation, body, success(answer))
        return self._replayed(reservation.release_record[1])

    def extend(
        self, tenant: str, reservation_id: str, body: Json, *, now_ms: int | None = None
    ) -> Outcome:
        """POST …/extend: move the expiry, counted from the current one; amounts stay."""
        self._set_clock(now_ms)
        reservation = self._refuse_caller(tenant) or self._owned(tenant, reservation_id)
        if isinstance(reservation, Outcome):
            return reservation
        record = reservation.extend_records.get(body["idempotency_key"])
        early = self._screen_mutation(tenant, record, body) or self._refuse_state(
            reservation, until_ms=reservation.expires_at_ms
        )
        if early is not None:
            return early
        if reservation.extension_count >= reservation.max_extensions:
            return failure("MAX_EXTENSIONS_EXCEEDED")

        reservation.expires_at_ms += body["extend_by_ms"]
        reservation.extension_count += 1
        answer = {
            "status": "ACTIVE",
            "expires_at_ms": reservation.expires_at_ms,
            "remaining_ttl_ms": reservation.expires_at_ms - self.now_ms,
            "balances": self._balances_of(reservation),
        }
        key, record = self._own_record(reservation, body, success(answer))
        reservation.extend_records[key] = record
        return self._replayed(record)

    def sweep(self, *, now_ms: int | None = None) -> list[str]:
        """Expire what is past expiry and grace; returns the ids. The tenant's status is no bar."""
        self._set_clock(now_ms)
        due = [
            reservation
            for reservation in self.reservations.values()
            if reservation.status == "ACTIVE" and self.now_ms > reservation.settle_until_ms
        ]
        for reservation in due:
            self._return_hold(reservation)
            self._end(reservation, "EXPIRED")
        return [reservation.reservation_id for reservation in due]

    # -- events -----------------------------------------------------------------------------

    def event(
        self,
        tenant: str,
        body: Json,
        *,
        observed_id: str | None = None,
        now_ms: int | None = None,
    ) -> Outcome:
        """POST /v1/events: a debit without a reservation, on all budgeted scopes or on none."""
        self._set_clock(now_ms)
        refusal = self._refuse_caller(tenant) or self._refuse_subject(tenant, body["subject"])
        if refusal is not None:
            return refusal
        key = (tenant, "event", body["idempotency_key"])
        early = self._screen_mutation(tenant, self._record(key), body)
        if early is not None:
            return early

        scopes = derive_scopes(body["subject"])
        unit, actual = body["actual"]["unit"], body["actual"]["amount"]
        budgets = self._budgets_on(tenant, scopes, unit)
        if not budgets:
            return self._no_budget(tenant, scopes, unit)
        if any(budget.status == "FROZEN" for budget in budgets):
            return failure("BUDGET_FROZEN")
        if any(budget.is_closed for budget in budgets):
            return failure("BUDGET_CLOSED")

        postings = [Posting(budget, hold=0, estimate=0) for budget in budgets]
        policy = self._overage_policy(tenant, body, budgets)
        # Open: taken by the letter, so even 0 is refused where remaining is negative.
        if policy == "REJECT" and scopes_short_of(actual, postings):
            return failure("BUDGET_EXCEEDED")
        overage = cover_overage(policy, actual, postings)
        if overage is None:
            return failure("OVERDRAFT_LIMIT_EXCEEDED")
        charged = overage.delta
        if not self._charge(postings, charged, overage):
            return failure(OVERFLOW_CODE)

        event_id = self._new_id(observed_id)
        self.events[event_id] = {**copy.deepcopy(body), "tenant": tenant, "charged": charged}
        answer: Json = {"status": "APPLIED", "event_id": event_id}
        if charged < actual:
            answer["charged"] = amount_of(unit, charged)
        answer["balances"] = [
            budget.to_balance() for budget in self._budgets_on(tenant, scopes, unit)
        ]
        expires_at_ms = self.now_ms + EVENT_KEY_LIFE_MS
        return self._remember(key, body, success(answer, 201), expires_at_ms)

    # -- reads ------------------------------------------------------------------------------

    def get_reservation(
        self, tenant: str, reservation_id: str, *, now_ms: int | None = None
    ) -> Outcome:
        """GET …/{reservation_id}: 410 once EXPIRED; past expiry but not swept, still ACTIVE."""
        self._set_clock(now_ms)
        reservation = self._owned(tenant, reservation_id)
        if isinstance(reservation, Outcome):
            return reservation
        if reservation.status == "EXPIRED":
            return failure("RESERVATION_EXPIRED")
        return success(copy.deepcopy(reservation.to_detail()))

    def list_reservations(
        self,
        tenant: str,
        filters: Mapping[str, str] | None = None,
        *,
        now_ms: int | None = None,
    ) -> Outcome:
        """GET /v1/reservations: all matching rows in the order of creation, without pages."""
        self._set_clock(now_ms)
        given = self._given_filters(filters)
        if given.pop("tenant", tenant) != tenant:
            return failure("FORBIDDEN")
        rows = [
            reservation
            for reservation in self.reservations.values()
            if reservation.tenant == tenant
            and self._is_kept(reservation)
            and self._matches(reservation, given)
        ]
        if "idempotency_key" in given:
            rows = rows[-1:]  # at most one: a key that was free again belongs to the latest
        return success({"reservations": [copy.deepcopy(r.to_summary()) for r in rows]})

    def balances(
        self,
        tenant: str,
        filters: Mapping[str, str] | None = None,
        *,
        now_ms: int | None = None,
    ) -> Outcome:
        """GET /v1/balances: the tenant's budgets whose scope has every given segment."""
        self._set_clock(now_ms)
        given = {k: v for k, v in self._given_filters(filters).items() if k in LEVELS}
        if not given:
            return failure("INVALID_REQUEST")
        if given.get("tenant", tenant) != tenant:
            return failure("FORBIDDEN")
        wanted = {f"{level}:{value.lower()}" for level, value in given.items()}
        matching = [
            budget
            for budget in self.budgets.values()
            if budget.belongs_to(tenant) and wanted <= set(budget.scope.split("/"))
        ]
        matching.sort(key=lambda budget: (budget.scope, budget.unit))
        return success({"balances": [budget.to_balance() for budget in matching]})

    # -- invariants -------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """LEDGER INVARIANT, and every hold accounted for by an ACTIVE reservation."""
        for budget in self.budgets.values():
            accounted = budget.remaining + budget.spent + budget.reserved + budget.debt
            assert budget.allocated == accounted, budget
            assert min(budget.reserved, budget.spent, budget.debt) >= 0, budget
            assert budget.fits_int64(), budget
            if budget.is_closed:
                assert budget.reserved == 0, budget
                continue
            held = self._held_on(budget)
            if budget.made_anew:
                # Reservations of the earlier budget settle here too and may use up newer holds.
                assert budget.reserved <= held, (budget, held)
            else:
                assert budget.reserved == held, (budget, held)

    def _held_on(self, budget: Budget) -> int:
        return sum(
            reservation.estimate
            for reservation in self.reservations.values()
            if reservation.status == "ACTIVE"
            and reservation.unit == budget.unit
            and budget.scope in reservation.budgeted_scopes
            and budget.belongs_to(reservation.tenant)
        )

    # -- checks before the operation itself -------------------------------------------------

    def _refuse_caller(self, tenant: str) -> Outcome | None:
        """A suspended tenant may read, commit and release; this stops everything else."""
        record = self.tenants.get(tenant)
        if record is not None and record.status == "SUSPENDED":
            return failure("UNAUTHORIZED")
        return None

    def _refuse_subject(self, tenant: str, subject: Mapping[str, Any]) -> Outcome | None:
        """400 for an invalid subject, then 403 if it names another tenant (TENANCY)."""
        if not is_valid_subject(subject):
            return failure("INVALID_REQUEST")
        if subject.get("tenant", tenant) != tenant:
            return failure("FORBIDDEN")
        return None

    def _owned(self, tenant: str, reservation_id: str) -> Reservation | Outcome:
        """404 for an unknown id, then 403 for another tenant's (ownership)."""
        reservation = self.reservations.get(reservation_id)
        if reservation is None or not self._is_kept(reservation):
            return failure("NOT_FOUND")
        if reservation.tenant != tenant:
            return failure("FORBIDDEN")
        return reservation

    def _screen_mutation(
        self, tenant: str, record: IdempotencyRecord | None, body: Json
    ) -> Outcome | None:
        """Replay, then the closed-tenant guard, then a key used for another request."""
        if record is not None and record.request == canonical_form(body):
            return self._replayed(record)
        if self._is_unreadable(tenant):
            return failure("INTERNAL_ERROR")
        if self._is_closed(tenant):
            return failure("TENANT_CLOSED")
        if record is not None:
            return failure("IDEMPOTENCY_MISMATCH")
        return None

    def _screen_evaluation(
        self, key: tuple[str, str, str], body: Json, closed_answer: Json
    ) -> Outcome | None:
        """The same for decide and dry run: a closed tenant is denied, never a 409.

        The denial is kept under its key, but does not take the place of an older record.
        """
        record = self._record(key)
        tenant = key[0]
        early = self._screen_mutation(tenant, record, body)
        if early is None or early.error != "TENANT_CLOSED":
            return early
        if record is not None:
            return success(copy.deepcopy(closed_answer))
        return self._remember(key, body, success(closed_answer), self.now_ms + DAY_MS)

    def _refuse_to_settle(self, reservation: Reservation) -> Outcome | None:
        """Commit and release count until expiry + grace."""
        return self._refuse_state(reservation, until_ms=reservation.settle_until_ms)

    def _refuse_state(self, reservation: Reservation, *, until_ms: int) -> Outcome | None:
        """409 once COMMITTED or RELEASED; 410 once EXPIRED or later than ``until_ms``."""
        if reservation.status in ("COMMITTED", "RELEASED"):
            return failure("RESERVATION_FINALIZED")
        if reservation.status == "EXPIRED" or self.now_ms > until_ms:
            return failure("RESERVATION_EXPIRED")
        return None

    # -- tenants ----------------------------------------------------------------------------

    def _is_closed(self, tenant: str) -> bool:
        """No tenant record, no guard."""
        return tenant in self.tenants and self.tenants[tenant].status == "CLOSED"

    def _is_unreadable(self, tenant: str) -> bool:
        known = ("ACTIVE", "SUSPENDED", "CLOSED")
        return tenant in self.tenants and self.tenants[tenant].status not in known

    def _effective_ttl(self, tenant: str, body: Json) -> int:
        """The request's, else the tenant's, else 60 s; capped where a tenant record exists."""
        record = self.tenants.get(tenant)
        if record is None:
            return int(body.get("ttl_ms", DEFAULT_TTL_MS))
        default_ms = _given(record.default_reservation_ttl_ms, DEFAULT_TTL_MS)
        maximum_ms = _given(record.max_reservation_ttl_ms, DEFAULT_MAX_TTL_MS)
        return min(int(body.get("ttl_ms", default_ms)), maximum_ms)

    def _max_extensions(self, tenant: str) -> int:
        """Read at reserve time and kept with the reservation."""
        record = self.tenants.get(tenant, Tenant())
        return _given(record.max_reservation_extensions, DEFAULT_MAX_EXTENSIONS)

    def _overage_policy(self, tenant: str, body: Json, budgets: Sequence[Budget]) -> str:
        """The request's, else the deepest budget's own, else the tenant's, else the default."""
        record = self.tenants.get(tenant, Tenant())
        return str(
            body.get("overage_policy")
            or budgets[-1].commit_overage_policy
            or record.default_commit_overage_policy
            or DEFAULT_OVERAGE_POLICY
        )

    # -- budgets ----------------------------------------------------------------------------

    def _budgets_on(self, tenant: str, scopes: Sequence[str], unit: str) -> list[Budget]:
        """The tenant's budgets on these scopes in the unit, shallowest first."""
        found = (self.budgets.get((scope, unit)) for scope in scopes)
        return [budget for budget in found if budget is not None and budget.belongs_to(tenant)]

    def _budgets_of(self, reservation: Reservation) -> list[Budget]:
        """The budgets that were there at reserve time and still are; a deleted one is skipped."""
        return self._budgets_on(reservation.tenant, reservation.budgeted_scopes, reservation.unit)

    def _balances_of(self, reservation: Reservation) -> list[Json]:
        return [budget.to_balance() for budget in self._budgets_of(reservation)]

    def _no_budget(self, tenant: str, scopes: Sequence[str], unit: str) -> Outcome:
        """UNIT_MISMATCH at the shallowest scope with a budget in another unit, else NOT_FOUND."""
        for scope in scopes:
            units = [u for u in UNITS if self._budgets_on(tenant, [scope], u)]
            if units:
                return _unit_mismatch(scope, unit, units)
        return failure("NOT_FOUND")

    def _wrong_commit_unit(self, reservation: Reservation, unit: str) -> Outcome:
        # Open: which scope is named; here the shallowest that was budgeted at reserve time.
        return _unit_mismatch(reservation.budgeted_scopes[0], unit, [reservation.unit])

    def _store(self, budgets: Iterable[Budget]) -> None:
        for budget in budgets:
            self.budgets[budget.scope, budget.unit] = budget

    def _charge(self, postings: Sequence[Posting], charged: int, overage: Overage) -> bool:
        """Book a charge on all budgets; False, and nothing booked, if one would leave int64."""
        after = [after_charge(posting, charged, overage) for posting in postings]
        if not all(budget.fits_int64() for budget in after):
            return False
        self._store(after)
        return True

    def _return_hold(self, reservation: Reservation) -> None:
        budgets = self._budgets_of(reservation)
        self._store([budget.without_hold(reservation.estimate) for budget in budgets])

    def _set_budget_status(self, scope: str, unit: str, status: str) -> None:
        """CLOSED is final."""
        budget = self.budgets[scope, unit]
        if not budget.is_closed:
            self._store([replace(budget, status=status)])

    @staticmethod
    def _funded(budget: Budget, operation: str, amount: int, spent: int) -> Budget:
        if operation == "CREDIT":
            return _resized(budget, budget.allocated + amount)
        if operation == "DEBIT":
            return _resized(budget, budget.allocated - amount)
        if operation == "RESET":
            return _resized(budget, amount)
        if operation == "RESET_SPENT":
            return _resized(replace(budget, spent=spent), amount)
        if operation == "REPAY_DEBT":
            repaid = min(budget.debt, amount)
            less_debt = replace(budget, debt=budget.debt - repaid)
            return _resized(less_debt, budget.allocated + amount - repaid)
        raise ValueError(f"unknown funding operation: {operation}")

    # -- reservations -----------------------------------------------------------------------

    def _end(self, reservation: Reservation, status: str) -> None:
        reservation.status = status
        reservation.ended_at_ms = self.now_ms

    def _is_kept(self, reservation: Reservation) -> bool:
        """A reservation is forgotten 30 days after its end."""
        ended_at_ms = reservation.ended_at_ms
        return ended_at_ms is None or self.now_ms <= ended_at_ms + RECORD_RETENTION_MS

    @staticmethod
    def _given_filters(filters: Mapping[str, str] | None) -> dict[str, str]:
        """A blank filter is unset."""
        return {name: value for name, value in (filters or {}).items() if value.strip()}

    @staticmethod
    def _matches(reservation: Reservation, given: Mapping[str, str]) -> bool:
        subject = reservation.request["subject"]
        if given.get("status", reservation.status) != reservation.status:
            return False
        key = reservation.request["idempotency_key"]
        if given.get("idempotency_key", key) != key:
            return False
        return all(
            subject.get(level, "").lower() == given[level].lower()
            for level in LEVELS
            if level in given
        )

    # -- idempotency ------------------------------------------------------------------------

    def _record(self, key: tuple[str, str, str]) -> IdempotencyRecord | None:
        """The record under (tenant, operation, key) while it lives.

        That of a live reserve outlives its lease, extensions included, by a day.
        """
        record = self.records.get(key)
        if record is None:
            return None
        expires_at_ms = record.expires_at_ms
        if record.reservation is not None:
            expires_at_ms = record.reservation.settle_until_ms + DAY_MS
        alive = expires_at_ms is None or self.now_ms <= expires_at_ms
        return record if alive else None

    @staticmethod
    def _record_of(
        own: tuple[str, IdempotencyRecord] | None, body: Json
    ) -> IdempotencyRecord | None:
        """A reservation's commit or release, if it was made under this request's key."""
        if own is not None and own[0] == body["idempotency_key"]:
            return own[1]
        return None

    def _remember(
        self,
        key: tuple[str, str, str],
        body: Json,
        outcome: Outcome,
        expires_at_ms: int | None = None,
        reservation: Reservation | None = None,
    ) -> Outcome:
        """Keep a success for replay; failures are never kept."""
        record = IdempotencyRecord(
            canonical_form(body), copy.deepcopy(outcome), expires_at_ms, reservation
        )
        self.records[key] = record
        return self._replayed(record)

    @staticmethod
    def _own_record(
        reservation: Reservation, body: Json, outcome: Outcome
    ) -> tuple[str, IdempotencyRecord]:
        """A success that is kept with its reservation: commit, release, extend."""
        record = IdempotencyRecord(
            canonical_form(body), copy.deepcopy(outcome), reservation=reservation
        )
        return body["idempotency_key"], record

    def _replayed(self, record: IdempotencyRecord) -> Outcome:
        """The original answer; only ``remaining_ttl_ms`` is observed afresh.

        It counts down to the expiry that the original answer gave, and is 0 once the
        reservation is not ACTIVE.
        """
        outcome = copy.deepcopy(record.outcome)
        if "remaining_ttl_ms" in outcome.body and record.reservation is not None:
            lead_ms = max(0, outcome.body["expires_at_ms"] - self.now_ms)
            is_active = record.reservation.status == "ACTIVE"
            outcome.body["remaining_ttl_ms"] = lead_ms if is_active else 0
        return outcome

    # -- clock and identifiers --------------------------------------------------------------

    def _set_clock(self, now_ms: int | None) -> None:
        if now_ms is not None:
            self.now_ms = now_ms

    def _new_id(self, observed_id: str | None) -> str:
        self._ids += 1
        return observed_id if observed_id is not None else f"id-{self._ids}"


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _resized(budget: Budget, allocated: int) -> Budget:
    """Another allocation: remaining follows from the ledger invariant."""
    remaining = allocated - budget.reserved - budget.spent - budget.debt
    return replace(budget, allocated=allocated, remaining=remaining)


def _unit_mismatch(scope: str, requested_unit: str, expected_units: list[str]) -> Outcome:
    return failure(
        "UNIT_MISMATCH",
        {"scope": scope, "requested_unit": requested_unit, "expected_units": expected_units},
    )
