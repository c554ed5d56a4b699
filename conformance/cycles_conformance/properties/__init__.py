"""Checks of what must hold over many requests, whatever their order: seeded, so that a failing
run can be had again (``--seed``)."""

from __future__ import annotations

from functools import partial

from cycles_conformance.planes import operations_of_runtime
from cycles_conformance.properties import crowd, replays, tenants, walk
from cycles_conformance.properties.base import OPERATIONS, Property, given

WALKED = OPERATIONS | operations_of_runtime({"decide", "getReservation"})

PROPERTIES: tuple[Property, ...] = (
    *(
        Property(
            id=f"property-crowd-{name}",
            level="MUST",
            clauses=clauses,
            why=why,
            given=given(*crowd.budgets(policy)),
            check=partial(crowd.check, policy),
        )
        for name, policy, clauses, why in (
            (
                "reject",
                "REJECT",
                ("reserve.all-or-nothing", "overage.reject", "balances.invariant"),
                "Eight clients at once must not spend more than there is, nor lose a unit of it.",
            ),
            (
                "if-available",
                "ALLOW_IF_AVAILABLE",
                ("overage.available-capped", "overage.available-no-debt", "balances.invariant"),
                "Overage must be cut down to what is left, also when several commits race for it.",
            ),
            (
                "with-overdraft",
                "ALLOW_WITH_OVERDRAFT",
                ("overdraft.test", "overdraft.flag", "balances.invariant"),
                "Debt must add up, and a scope that went beyond its limit must say so.",
            ),
        )
    ),
    *(
        Property(
            id=f"property-walk-{name}",
            level="MUST",
            clauses=clauses,
            why=why,
            given=given(*scenario.budgets()),
            check=partial(walk.check, scenario),
            operations=WALKED,
        )
        for name, scenario, clauses, why in (
            (
                "capped",
                walk.CAPPED,
                ("reserve.all-or-nothing", "overage.available-capped", "balances.invariant"),
                "Each action must move each balance by just what it says.",
            ),
            (
                "overdrawn",
                walk.OVERDRAWN,
                ("overdraft.test", "overdraft.passed", "overdraft.failed"),
                "Debt must arise and count just as the contract says.",
            ),
            (
                "large",
                walk.LARGE,
                ("balances.invariant",),
                "An amount beyond 2^53 must not lose its last digits.",
            ),
        )
    ),
    Property(
        id="property-replays-at-once",
        level="MUST",
        clauses=("idempotency.unique", "idempotency.replay", "idempotency.no-double-charge"),
        why="A client that retries before the first answer is back must not pay twice.",
        given=given(*replays.budgets()),
        check=replays.check,
    ),
    Property(
        id="property-tenants-side-by-side",
        level="MUST",
        clauses=("tenancy.ownership", "tenancy.balances-stay-inside"),
        why="Load on one tenant must never show in another's ledger, ids or answers.",
        given=given(*tenants.budgets(), tenants=tenants.TENANTS),
        check=tenants.check,
        operations=OPERATIONS | operations_of_runtime({"getReservation"}),
    ),
)

__all__ = ["PROPERTIES", "Property"]
