"""Random acts of the governance plane: budgets and tenant records."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from model.ledger import Tenant, derive_scopes, is_valid_subject

from support.requests import (
    EDGES,
    INT64_MAX,
    TENANTS,
    Draw,
    Json,
    amounts,
    mostly,
    policies,
    small,
    subjects,
    tenants,
    units,
    weighted,
)

acts = st.sampled_from(
    ("fund", "fund", "change", "change", "freeze", "unfreeze", "close", "drop", "renew")
)
"""What is done to a budget that is there."""

fundings = st.sampled_from(("CREDIT", "DEBIT", "RESET", "RESET_SPENT", "REPAY_DEBT"))

_funds = weighted((3, st.integers(20, 3000)), (1, amounts))
_limits = weighted((2, st.just(0)), (2, st.integers(1, 200)), (1, st.sampled_from(EDGES)))
_own_policy = st.none() | policies

changes = st.fixed_dictionaries(
    {},
    optional={
        "overdraft_limit": _limits,
        "is_over_limit": st.booleans(),
        "caps": st.none() | st.just({"max_steps_remaining": 1}),
        "commit_overage_policy": _own_policy,
    },
)
"""Fields of a budget that are set anew."""


@st.composite
def budgets(draw: Draw) -> Json:
    """What :meth:`LedgerModel.put_budget` takes."""
    tenant = draw(tenants)
    subject = draw(subjects(tenant).filter(is_valid_subject))
    scope = draw(st.sampled_from(derive_scopes(subject)))
    owner = mostly(tenant, None, *TENANTS)
    if not scope.startswith("tenant:"):
        owner = st.sampled_from((tenant, None, *TENANTS))
    full = draw(mostly(False, False, True))
    return {
        "scope": scope,
        "unit": draw(units),
        "allocated": draw(small if full else _funds),
        "tenant_id": draw(owner),
        # A full one has hardly room for a further debt in 64 bits.
        "spent": INT64_MAX - 3 if full else draw(mostly(0, 3)),
        "debt": draw(mostly(0, 0, 2, 40, INT64_MAX)),
        "overdraft_limit": draw(_limits),
        "is_over_limit": draw(mostly(False, False, True)),
        "status": draw(mostly("ACTIVE", "ACTIVE", "FROZEN", "CLOSED")),
        "caps": draw(mostly(None, None, {"max_tokens": 5, "tool_denylist": ["ü"]})),
        "commit_overage_policy": draw(_own_policy),
    }


@st.composite
def first_budgets(draw: Draw) -> list[Json]:
    """What there is at the beginning: one budget for each tenant, three levels for the first."""
    scopes = [(tenant, f"tenant:{tenant.lower()}") for tenant in TENANTS]
    top = scopes[0][1]
    scopes += [(TENANTS[0], top + tail) for tail in ("/workspace:a", "/workspace:a/agent:x")]
    return [
        {
            "scope": scope,
            "unit": "TOKENS",
            "allocated": draw(st.sampled_from((100, 250, 10**15 + 5, INT64_MAX))),
            "tenant_id": tenant,
            "overdraft_limit": draw(st.sampled_from((0, 60))),
        }
        for tenant, scope in scopes
    ]


@st.composite
def tenant_records(draw: Draw, *states: str | None) -> Tenant | None:
    """A record in one of these states; the state None stands for no record."""
    state = draw(st.sampled_from(states))
    if state is None:
        return None
    optional: dict[str, Any] = {
        "default_commit_overage_policy": draw(_own_policy),
        "default_reservation_ttl_ms": draw(st.none() | st.sampled_from((1000, 7000))),
        "max_reservation_ttl_ms": draw(st.none() | st.sampled_from((1000, 5000, 86_400_000))),
        "max_reservation_extensions": draw(st.none() | st.integers(0, 2)),
    }
    return Tenant(state, **optional)
