"""The model against worked examples: where server and model differ, the model can be trusted.

Test names carry the rule; numbers are small where the rule is about order or arithmetic, and at
the edge of int64 where exactness is the point.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .ledger import DAY_MS, INT64_MAX, Json, LedgerModel, Outcome, Tenant

T = "acme"
TENANT_SCOPE = "tenant:acme"
AGENT_SCOPE = "tenant:acme/agent:bot"
UNIT = "TOKENS"
AIA = "ALLOW_IF_AVAILABLE"
AWO = "ALLOW_WITH_OVERDRAFT"
ACTION = {"kind": "llm.completion", "name": "summarise"}


def request(key: str, amount: int, member: str = "estimate", **extra: Any) -> Json:
    subject = extra.pop("subject", {"tenant": T})
    unit = extra.pop("unit", UNIT)
    return {
        "idempotency_key": key,
        "subject": subject,
        "action": ACTION,
        member: {"unit": unit, "amount": amount},
        **extra,
    }


def debit(key: str, amount: int, **extra: Any) -> Json:
    return request(key, amount, member="actual", **extra)


def commit_body(key: str, amount: int, unit: str = UNIT, **extra: Any) -> Json:
    return {"idempotency_key": key, "actual": {"unit": unit, "amount": amount}, **extra}


def extend_body(key: str, by_ms: int) -> Json:
    return {"idempotency_key": key, "extend_by_ms": by_ms}


def reserved_id(outcome: Outcome) -> str:
    assert outcome.status == 200, outcome
    return str(outcome.body["reservation_id"])


def ledger(model: LedgerModel, scope: str = TENANT_SCOPE, unit: str = UNIT) -> tuple[int, ...]:
    """(remaining, reserved, spent, debt)"""
    budget = model.budgets[scope, unit]
    return budget.remaining, budget.reserved, budget.spent, budget.debt


def is_over(model: LedgerModel, scope: str = TENANT_SCOPE) -> bool:
    return model.budgets[scope, UNIT].is_over_limit


def model_with(allocated: int = 1_000_000, **extra: Any) -> LedgerModel:
    model = LedgerModel()
    model.put_budget(TENANT_SCOPE, UNIT, allocated, tenant_id=T, **extra)
    return model


def two_level_model(parent: int, child: int, **child_extra: Any) -> LedgerModel:
    model = model_with(parent)
    model.put_budget(AGENT_SCOPE, UNIT, child, tenant_id=T, **child_extra)
    return model


BOTH_LEVELS = {"tenant": T, "agent": "bot"}


# -- subjects and scopes ---------------------------------------------------------------------


def test_all_levels_in_canonical_order_and_lower_case() -> None:
    model = model_with()
    subject = {"toolset": "T1", "agent": "A", "workspace": "Dev", "tenant": T}
    body = model.reserve(T, request("k", 1, subject=subject)).body
    assert body["affected_scopes"] == [
        "tenant:acme",
        "tenant:acme/workspace:dev",
        "tenant:acme/workspace:dev/agent:a",
        "tenant:acme/workspace:dev/agent:a/toolset:t1",
    ]
    assert body["scope_path"] == body["affected_scopes"][-1]
    assert [b["scope_path"] for b in body["balances"]] == [TENANT_SCOPE]
    assert model.get_reservation(T, body["reservation_id"]).body["subject"] == subject


@pytest.mark.parametrize(
    "subject",
    [{}, {"dimensions": {"a": "b"}}, *({"tenant": T, "agent": v} for v in ("", " ", "a:b", "a\n"))],
)
def test_invalid_subjects(subject: Json) -> None:
    model = model_with()
    assert model.reserve(T, request("k", 1, subject=subject)).error == "INVALID_REQUEST"
    assert model.decide(T, request("k", 1, subject=subject)).error == "INVALID_REQUEST"
    assert model.event(T, debit("k", 1, subject=subject)).error == "INVALID_REQUEST"


def test_another_tenant_in_the_subject_is_forbidden() -> None:
    model = model_with()
    for body in (request("k", 1, subject={"tenant": "other"}), request("k", 1, dry_run=True)):
        assert model.reserve("stranger", body).status == 403


def test_a_budget_of_another_tenant_does_not_count() -> None:
    model = LedgerModel()
    model.put_budget("workspace:dev", UNIT, 100, tenant_id="other")
    assert model.reserve(T, request("k", 1, subject={"workspace": "dev"})).status == 404
    model.put_budget("workspace:dev", UNIT, 100)
    assert model.reserve(T, request("k", 1, subject={"workspace": "dev"})).status == 404
    model.put_budget("tenant:acme", UNIT, 100)
    assert model.reserve(T, request("k", 1)).status == 200


# -- reserve ---------------------------------------------------------------------------------


def test_rsv_001_002_reserve_moves_the_estimate_into_reserved() -> None:
    model = model_with()
    outcome = model.reserve(T, request("k", 1000), observed_id="r1", now_ms=5000)
    assert outcome == Outcome(
        200,
        {
            "decision": "ALLOW",
            "reservation_id": "r1",
            "reserved": {"unit": UNIT, "amount": 1000},
            "expires_at_ms": 65_000,
            "remaining_ttl_ms": 60_000,
            "scope_path": TENANT_SCOPE,
            "affected_scopes": [TENANT_SCOPE],
            "balances": [
                {
                    "scope": TENANT_SCOPE,
                    "scope_path": TENANT_SCOPE,
                    "remaining": {"unit": UNIT, "amount": 999_000},
                    "reserved": {"unit": UNIT, "amount": 1000},
                    "spent": {"unit": UNIT, "amount": 0},
                    "allocated": {"unit": UNIT, "amount": 1_000_000},
                }
            ],
        },
    )


@pytest.mark.parametrize(("amount", "error"), [(0, None), (100, None), (101, "BUDGET_EXCEEDED")])
def test_rsv_003_004_exact_fit_and_one_too_many(amount: int, error: str | None) -> None:
    model = model_with(100)
    assert model.reserve(T, request("k", amount)).error == error
    assert ledger(model) == ((100, 0, 0, 0) if error else (100 - amount, amount, 0, 0))


def test_rsv_005_006_zero_needs_a_remaining_that_is_not_negative() -> None:
    assert model_with(0).reserve(T, request("k", 0)).status == 200
    below = model_with(10, debt=11, overdraft_limit=20)
    assert below.reserve(T, request("k", 0)).error == "BUDGET_EXCEEDED"


def test_rsv_012_013_caps_only_from_the_budget_of_the_full_path() -> None:
    caps = {"max_tokens": 5}
    outcome = model_with(caps=caps).reserve(T, request("k", 1))
    assert (outcome.body["decision"], outcome.body["caps"]) == ("ALLOW_WITH_CAPS", caps)
    outcome = model_with(caps=caps).reserve(T, request("k", 1, subject=BOTH_LEVELS))
    assert outcome.body["decision"] == "ALLOW" and "caps" not in outcome.body


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"status": "FROZEN", "is_over_limit": True}, "BUDGET_FROZEN"),
        ({"status": "CLOSED", "is_over_limit": True}, "BUDGET_CLOSED"),
        ({"is_over_limit": True, "debt": 5}, "OVERDRAFT_LIMIT_EXCEEDED"),
        ({"debt": 5}, "DEBT_OUTSTANDING"),
        ({"debt": 5, "overdraft_limit": 5}, None),
        ({"spent": 100}, "BUDGET_EXCEEDED"),
    ],
)
def test_rsv_015_to_021_what_blocks_a_reserve(state: Json, code: str | None) -> None:
    model = model_with(100, **state)
    assert model.reserve(T, request("live", 1)).error == code
    for outcome in (
        model.reserve(T, request("dry", 1, dry_run=True)),
        model.decide(T, request("decide", 1)),
    ):
        assert outcome.status == 200
        assert outcome.body.get("reason_code") == code
        assert outcome.body["decision"] == ("DENY" if code else "ALLOW")


def test_each_check_runs_over_all_scopes_before_the_next() -> None:
    model = two_level_model(0, 100)
    model.freeze(AGENT_SCOPE, UNIT)
    assert model.reserve(T, request("k", 1, subject=BOTH_LEVELS)).error == "BUDGET_FROZEN"
    model.unfreeze(AGENT_SCOPE, UNIT)
    assert model.reserve(T, request("k", 1, subject=BOTH_LEVELS)).error == "BUDGET_EXCEEDED"
    assert ledger(model, AGENT_SCOPE) == (100, 0, 0, 0)


def test_rsv_023_026_wrong_unit_and_no_budget() -> None:
    model = LedgerModel()
    model.put_budget(AGENT_SCOPE, "RISK_POINTS", 10, tenant_id=T)
    model.put_budget(AGENT_SCOPE, "CREDITS", 10, tenant_id=T)
    wrong_unit = request("k", 1, subject=BOTH_LEVELS)
    for outcome in (
        model.reserve(T, wrong_unit),
        model.reserve(T, {**wrong_unit, "dry_run": True}),
        model.decide(T, wrong_unit),
        model.event(T, debit("k", 1, subject=BOTH_LEVELS)),
    ):
        assert (outcome.status, outcome.error) == (400, "UNIT_MISMATCH")
        assert outcome.body["details"] == {
            "scope": AGENT_SCOPE,
            "requested_unit": UNIT,
            "expected_units": ["CREDITS", "RISK_POINTS"],
        }
    nowhere = request("n", 1)
    assert model.reserve(T, nowhere).error == "NOT_FOUND"
    assert model.event(T, debit("n", 1)).error == "NOT_FOUND"
    assert model.decide(T, nowhere).body["reason_code"] == "BUDGET_NOT_FOUND"
    dry = model.reserve(T, {**nowhere, "dry_run": True})
    assert (dry.status, dry.body["reason_code"]) == (200, "BUDGET_NOT_FOUND")


def test_dry_run_changes_nothing_and_promises_no_lease() -> None:
    model = model_with(100)
    body = model.reserve(T, request("k", 60, dry_run=True)).body
    assert set(body) == {"decision", "reserved", "scope_path", "affected_scopes", "balances"}
    assert body["balances"][0]["remaining"]["amount"] == 100
    denied = model.reserve(T, request("d", 101, dry_run=True)).body
    assert set(denied) == {"decision", "reason_code", "scope_path", "affected_scopes", "balances"}
    assert ledger(model) == (100, 0, 0, 0)
    assert model.list_reservations(T).body == {"reservations": []}


@pytest.mark.parametrize(
    ("tenant", "requested", "granted"),
    [
        (None, None, 60_000),
        (None, 86_400_000, 86_400_000),
        (Tenant(), 86_400_000, 3_600_000),
        (Tenant(default_reservation_ttl_ms=5000), None, 5000),
        (Tenant(max_reservation_ttl_ms=10_000), 60_000, 10_000),
        (Tenant(default_reservation_ttl_ms=5000, max_reservation_ttl_ms=1000), None, 1000),
    ],
)
def test_effective_ttl(tenant: Tenant | None, requested: int | None, granted: int) -> None:
    model = model_with()
    if tenant is not None:
        model.put_tenant(T, tenant)
    extra: Json = {} if requested is None else {"ttl_ms": requested}
    assert model.reserve(T, request("k", 1, **extra)).body["remaining_ttl_ms"] == granted


@pytest.mark.parametrize(
    ("requested", "of_budget", "of_tenant", "rejected"),
    [
        (AIA, "REJECT", "REJECT", False),
        (None, "REJECT", AIA, True),
        (None, None, "REJECT", True),
        (None, None, None, False),
    ],
)
def test_where_the_overage_policy_comes_from(
    requested: str | None, of_budget: str | None, of_tenant: str | None, rejected: bool
) -> None:
    model = model_with(100, commit_overage_policy=of_budget)
    model.put_tenant(T, Tenant(default_commit_overage_policy=of_tenant))
    extra: Json = {} if requested is None else {"overage_policy": requested}
    reservation = reserved_id(model.reserve(T, request("k", 10, **extra)))
    assert (model.commit(T, reservation, commit_body("c", 11)).status == 409) is rejected
    assert (model.event(T, debit("e", 1000, **extra)).status == 409) is rejected


# -- commit ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "allocated", "state", "policy", "estimate", "actual", "after", "over"),
    [
        ("CMT-001", 1_000_000, {}, AIA, 1000, 1000, (999_000, 0, 1000, 0), False),
        ("CMT-002", 1_000_000, {}, AIA, 5000, 3000, (997_000, 0, 3000, 0), False),
        ("CMT-003", 100, {}, AIA, 50, 0, (100, 0, 0, 0), False),
        ("CMT-005", 100, {}, "REJECT", 50, 50, (50, 0, 50, 0), False),
        ("CMT-006", 1_000_000, {}, AIA, 5000, 8000, (992_000, 0, 8000, 0), False),
        ("CMT-007", 1000, {}, AIA, 900, 1100, (0, 0, 1000, 0), True),
        ("CMT-008", 100, {}, AIA, 100, 150, (0, 0, 100, 0), True),
        ("CMT-012", 100, {"overdraft_limit": 5}, AWO, 10, 60, (40, 0, 60, 0), False),
        ("CMT-013", 100, {"overdraft_limit": 100}, AWO, 90, 150, (-50, 0, 90, 60), False),
        ("CMT-016", 100, {}, AWO, 90, 150, (0, 0, 100, 0), True),
        ("CMT-018", 100, {"overdraft_limit": 60}, AWO, 90, 150, (-50, 0, 90, 60), False),
        ("CMT-035", 100, {}, AIA, 0, 120, (0, 0, 100, 0), True),
    ],
)
def test_commit_arithmetic(
    case: str,
    allocated: int,
    state: Json,
    policy: str,
    estimate: int,
    actual: int,
    after: tuple[int, ...],
    over: bool,
) -> None:
    model = model_with(allocated, **state)
    reservation = reserved_id(model.reserve(T, request("k", estimate, overage_policy=policy)))
    outcome = model.commit(T, reservation, commit_body("c", actual))
    assert outcome.status == 200, case
    remaining, _, spent, debt = after
    charged = spent + debt
    assert outcome.body["charged"] == {"unit": UNIT, "amount": charged}
    released = outcome.body.get("released", {"amount": 0})["amount"]
    assert released == max(0, estimate - charged)
    assert ("released" in outcome.body) is (charged < estimate)
    assert (ledger(model), is_over(model)) == (after, over), case
    assert outcome.body["balances"][0]["remaining"]["amount"] == remaining
    model.check_invariants()


@pytest.mark.parametrize(
    ("case", "state", "policy", "estimate", "actual", "code"),
    [
        ("CMT-004", {}, "REJECT", 50, 51, "BUDGET_EXCEEDED"),
        ("CMT-014", {"overdraft_limit": 50}, AWO, 100, 240, "OVERDRAFT_LIMIT_EXCEEDED"),
        ("CMT-015", {"overdraft_limit": 59}, AWO, 190, 250, "OVERDRAFT_LIMIT_EXCEEDED"),
    ],
)
def test_a_refused_commit_changes_nothing_and_may_be_tried_again(
    case: str, state: Json, policy: str, estimate: int, actual: int, code: str
) -> None:
    model = model_with(200, **state)
    reservation = reserved_id(model.reserve(T, request("k", estimate, overage_policy=policy)))
    assert model.commit(T, reservation, commit_body("c", actual)).error == code, case
    assert ledger(model) == (200 - estimate, estimate, 0, 0)
    assert not is_over(model)
    assert model.get_reservation(T, reservation).body["status"] == "ACTIVE"
    assert model.commit(T, reservation, commit_body("c", estimate)).status == 200


def test_cmt_010_a_capped_parent_blocks_everything_below_it() -> None:
    model = two_level_model(100, 1000)
    subject_request = request("k", 90, subject=BOTH_LEVELS)
    reservation = reserved_id(model.reserve(T, subject_request))
    outcome = model.commit(T, reservation, commit_body("c", 150))
    assert outcome.body["charged"]["amount"] == 100
    assert (is_over(model, TENANT_SCOPE), is_over(model, AGENT_SCOPE)) == (True, False)
    assert ledger(model, AGENT_SCOPE) == (900, 0, 100, 0)
    blocked = model.reserve(T, request("next", 1, subject=BOTH_LEVELS))
    assert blocked.error == "OVERDRAFT_LIMIT_EXCEEDED"


def test_overdraft_over_scopes_with_and_without_a_limit() -> None:
    """The scope without a limit decides the charge and is flagged; the other owes what is left."""
    model = two_level_model(130, 100, overdraft_limit=40)
    body = request("k", 90, subject=BOTH_LEVELS, overage_policy=AWO)
    reservation = reserved_id(model.reserve(T, body))
    outcome = model.commit(T, reservation, commit_body("c", 140))  # delta 50; available 40 and 10
    assert outcome.body["charged"]["amount"] == 130
    assert (ledger(model, TENANT_SCOPE), is_over(model, TENANT_SCOPE)) == ((0, 0, 130, 0), True)
    assert outcome.body["balances"][1]["debt"]["amount"] == 40
    assert (ledger(model, AGENT_SCOPE), is_over(model, AGENT_SCOPE)) == ((-30, 0, 90, 40), False)
    model.check_invariants()


def test_overdraft_refused_on_one_scope_flags_none() -> None:
    model = two_level_model(130, 100, overdraft_limit=39)
    body = request("k", 90, subject=BOTH_LEVELS, overage_policy=AWO)
    reservation = reserved_id(model.reserve(T, body))
    refused = model.commit(T, reservation, commit_body("c", 140))
    assert refused.error == "OVERDRAFT_LIMIT_EXCEEDED"
    assert (is_over(model, TENANT_SCOPE), ledger(model, TENANT_SCOPE)) == (False, (40, 90, 0, 0))


def test_overdraft_with_nothing_to_charge_beyond_the_estimate_checks_no_limit() -> None:
    model = two_level_model(90, 100, overdraft_limit=1, debt=0)
    body = request("k", 90, subject=BOTH_LEVELS, overage_policy=AWO)
    reservation = reserved_id(model.reserve(T, body))
    assert model.commit(T, reservation, commit_body("c", 500)).body["charged"]["amount"] == 90
    assert (is_over(model, TENANT_SCOPE), is_over(model, AGENT_SCOPE)) == (True, False)


@pytest.mark.parametrize("settle", ["freeze", "over"])
def test_cmt_019_020_frozen_and_over_limit_budgets_still_settle(settle: str) -> None:
    model = model_with(100)
    reservation = reserved_id(model.reserve(T, request("k", 40)))
    other = reserved_id(model.reserve(T, request("k2", 40)))
    if settle == "freeze":
        model.freeze(TENANT_SCOPE, UNIT)
    else:
        assert model.event(T, debit("e", 100)).status == 201
        assert is_over(model)
    assert model.commit(T, reservation, commit_body("c", 30)).status == 200
    assert model.release(T, other, {"idempotency_key": "r"}).status == 200


def test_commit_and_release_on_a_budget_closed_meanwhile() -> None:
    model = two_level_model(100, 100)
    ids = [reserved_id(model.reserve(T, request(k, 20, subject=BOTH_LEVELS))) for k in "abc"]
    model.close_budget(AGENT_SCOPE, UNIT)
    assert ledger(model, AGENT_SCOPE) == (100, 0, 0, 0)
    model.check_invariants()
    assert model.release(T, ids[0], {"idempotency_key": "r"}).status == 200
    assert ledger(model, AGENT_SCOPE) == (100, 0, 0, 0)
    # The open parent alone caps (60 remain): 20 + 60 of the 500.
    assert model.commit(T, ids[1], commit_body("c", 500)).body["charged"]["amount"] == 80
    assert (ledger(model, AGENT_SCOPE), is_over(model, AGENT_SCOPE)) == ((20, 0, 80, 0), False)
    assert (ledger(model, TENANT_SCOPE), is_over(model, TENANT_SCOPE)) == ((0, 20, 80, 0), True)
    assert model.sweep(now_ms=model.now_ms + DAY_MS) == [ids[2]]
    assert ledger(model, AGENT_SCOPE) == (20, 0, 80, 0)
    assert ledger(model, TENANT_SCOPE) == (20, 0, 80, 0)
    model.check_invariants()


def test_a_deleted_budget_is_skipped_and_never_comes_back() -> None:
    model = model_with(100)
    reservation = reserved_id(model.reserve(T, request("k", 20)))
    model.delete_budget(TENANT_SCOPE, UNIT)
    outcome = model.commit(T, reservation, commit_body("c", 50))
    assert (outcome.body["charged"]["amount"], outcome.body["balances"]) == (50, [])
    assert model.budgets == {}


def test_a_budget_made_anew_returns_no_hold_it_never_had() -> None:
    model = model_with(100)
    first = reserved_id(model.reserve(T, request("a", 20)))
    second = reserved_id(model.reserve(T, request("b", 20)))
    model.put_budget(TENANT_SCOPE, UNIT, 50, tenant_id=T)
    assert model.release(T, first, {"idempotency_key": "r"}).status == 200
    assert ledger(model) == (50, 0, 0, 0)
    # Paying the estimate leaves 30, so a delta of 40 is capped there.
    assert model.commit(T, second, commit_body("c", 60)).body["charged"]["amount"] == 50
    assert (ledger(model), is_over(model)) == ((0, 0, 50, 0), True)
    model.check_invariants()


@pytest.mark.parametrize("grace", [0, 5000])
def test_cmt_022_to_025_commit_and_release_through_expiry_and_grace(grace: int) -> None:
    model = model_with()
    body = request("k", 10, ttl_ms=1000, grace_period_ms=grace)
    ids = [reserved_id(model.reserve(T, {**body, "idempotency_key": k})) for k in "abc"]
    last = model.now_ms + 1000 + grace
    assert model.sweep(now_ms=last) == []
    assert model.commit(T, ids[0], commit_body("c", 10), now_ms=last).status == 200
    assert model.release(T, ids[1], {"idempotency_key": "r"}, now_ms=last).status == 200
    late = model.commit(T, ids[2], commit_body("c", 10), now_ms=last + 1)
    assert (late.status, late.error) == (410, "RESERVATION_EXPIRED")
    assert model.release(T, ids[2], {"idempotency_key": "r"}).status == 410
    assert model.get_reservation(T, ids[2]).body["status"] == "ACTIVE"
    assert model.sweep() == [ids[2]]
    assert ledger(model) == (999_990, 0, 10, 0)
    assert model.get_reservation(T, ids[2]).status == 410
    assert model.commit(T, ids[2], commit_body("c", 10)).status == 410
    rows = model.list_reservations(T, {"status": "EXPIRED"}).body["reservations"]
    assert [row["reservation_id"] for row in rows] == [ids[2]]
    assert "finalized_at_ms" not in rows[0]
    model.check_invariants()


def test_cmt_026_to_028_state_before_unit_and_unknown_ids() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10)))
    wrong = model.commit(T, reservation, commit_body("c", 10, unit="CREDITS"))
    assert wrong.body["details"] == {
        "scope": TENANT_SCOPE,
        "requested_unit": "CREDITS",
        "expected_units": [UNIT],
    }
    assert model.release(T, reservation, {"idempotency_key": "r"}).status == 200
    wrong = model.commit(T, reservation, commit_body("c", 10, unit="CREDITS"))
    assert wrong.error == "RESERVATION_FINALIZED"
    assert model.commit(T, "unknown", commit_body("c", 1)).error == "NOT_FOUND"
    assert model.commit("other", reservation, commit_body("c", 1)).error == "FORBIDDEN"


def test_cmt_029_031_what_a_committed_reservation_shows() -> None:
    model = model_with(100)
    body = request("k", 90, metadata={"a": {"b": [1]}})
    reservation = reserved_id(model.reserve(T, body, now_ms=1000))
    model.commit(T, reservation, commit_body("c", 150, metadata={"m": 1}), now_ms=2000)
    detail = model.get_reservation(T, reservation).body
    assert detail == {
        "reservation_id": reservation,
        "status": "COMMITTED",
        "idempotency_key": "k",
        "subject": {"tenant": T},
        "action": ACTION,
        "reserved": {"unit": UNIT, "amount": 90},
        "committed": {"unit": UNIT, "amount": 100},
        "created_at_ms": 1000,
        "expires_at_ms": 61_000,
        "finalized_at_ms": 2000,
        "scope_path": TENANT_SCOPE,
        "affected_scopes": [TENANT_SCOPE],
        "metadata": {"a": {"b": [1]}},
        "committed_metadata": {"m": 1},
    }
    row = model.list_reservations(T).body["reservations"][0]
    assert set(detail) - set(row) == {"metadata", "committed_metadata"}


# -- extend ----------------------------------------------------------------------------------


def test_ext_001_003_extend_counts_from_the_expiry_and_moves_no_amount() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10), now_ms=1000))
    outcome = model.extend(T, reservation, extend_body("x", 10_000), now_ms=31_000)
    assert outcome.body["expires_at_ms"] == 71_000
    assert outcome.body["remaining_ttl_ms"] == 40_000
    assert ledger(model) == (999_990, 10, 0, 0)


def test_ext_004_006_no_grace_for_extend() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10, ttl_ms=1000), now_ms=0))
    assert model.extend(T, reservation, extend_body("a", 1), now_ms=1000).status == 200
    assert model.extend(T, reservation, extend_body("b", 1), now_ms=1002).status == 410
    model.sweep(now_ms=DAY_MS)
    assert model.extend(T, reservation, extend_body("b", 1)).status == 410


def test_ext_005_finalized() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10)))
    model.commit(T, reservation, commit_body("c", 10))
    assert model.extend(T, reservation, extend_body("x", 1)).error == "RESERVATION_FINALIZED"


@pytest.mark.parametrize(("limit", "allowed"), [(2, 2), (0, 0), (None, 10)])
def test_ext_008_to_012_the_limit_is_that_of_reserve_time(limit: int | None, allowed: int) -> None:
    model = model_with()
    model.put_tenant(T, Tenant(max_reservation_extensions=limit))
    reservation = reserved_id(model.reserve(T, request("k", 10)))
    model.put_tenant(T, Tenant(max_reservation_extensions=99))
    for n in range(allowed):
        assert model.extend(T, reservation, extend_body(f"x{n}", 1)).status == 200
    refused = model.extend(T, reservation, extend_body("more", 1))
    assert (refused.status, refused.error) == (409, "MAX_EXTENSIONS_EXCEEDED")
    if allowed:
        assert model.extend(T, reservation, extend_body("x0", 1)).status == 200
    assert (
        model.extend(T, reservation, extend_body("more", 1), now_ms=DAY_MS * 30_000).status == 410
    )


# -- events ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "allocated", "state", "policy", "actual", "after", "over"),
    [
        ("EVT-001", 1_000_000, {}, AIA, 1000, (999_000, 0, 1000, 0), False),
        ("EVT-005", 100, {}, "REJECT", 100, (0, 0, 100, 0), False),
        ("EVT-006", 50, {}, AIA, 80, (0, 0, 50, 0), True),
        ("EVT-009", 50, {"spent": 50}, AIA, 10, (0, 0, 50, 0), True),
        ("EVT-012", 100, {}, AWO, 150, (0, 0, 100, 0), True),
        ("EVT-014", 100, {"is_over_limit": True, "debt": 10}, AIA, 5, (85, 0, 5, 10), True),
        ("EVT-015", 100, {}, AIA, 0, (100, 0, 0, 0), False),
        ("negative, nothing to cover", 0, {"debt": 5}, AIA, 0, (-5, 0, 0, 5), False),
        ("all of it is debt", 100, {"overdraft_limit": 150}, AWO, 150, (-50, 0, 0, 150), False),
    ],
)
def test_event_arithmetic(
    case: str,
    allocated: int,
    state: Json,
    policy: str,
    actual: int,
    after: tuple[int, ...],
    over: bool,
) -> None:
    model = model_with(allocated, **state)
    before = ledger(model)
    outcome = model.event(T, debit("k", actual, overage_policy=policy), observed_id="e1")
    assert (outcome.status, outcome.body["event_id"]) == (201, "e1"), case
    charged = before[0] - after[0]
    if charged < actual:
        assert outcome.body["charged"] == {"unit": UNIT, "amount": charged}
    else:
        assert "charged" not in outcome.body
    assert (ledger(model), is_over(model)) == (after, over), case
    model.check_invariants()


@pytest.mark.parametrize(
    ("case", "state", "policy", "actual", "code"),
    [
        ("EVT-005", {}, "REJECT", 101, "BUDGET_EXCEEDED"),
        ("EVT-010", {"overdraft_limit": 50}, AWO, 150, "OVERDRAFT_LIMIT_EXCEEDED"),
        ("EVT-013", {"status": "FROZEN"}, AIA, 1, "BUDGET_FROZEN"),
        ("EVT-013", {"status": "CLOSED"}, AIA, 1, "BUDGET_CLOSED"),
    ],
)
def test_refused_events_change_nothing(
    case: str, state: Json, policy: str, actual: int, code: str
) -> None:
    model = model_with(100, **state)
    outcome = model.event(T, debit("k", actual, overage_policy=policy))
    assert (outcome.status, outcome.error) == (409, code), case
    assert (ledger(model), is_over(model)) == ((100, 0, 0, 0), False)


def test_evt_002_all_levels_or_none() -> None:
    model = two_level_model(10, 100)
    body = debit("k", 20, subject=BOTH_LEVELS, overage_policy="REJECT")
    assert model.event(T, body).status == 409
    assert ledger(model, AGENT_SCOPE) == (100, 0, 0, 0)
    assert model.event(T, {**body, "actual": {"unit": UNIT, "amount": 10}}).status == 201
    assert (ledger(model), ledger(model, AGENT_SCOPE)) == ((0, 0, 10, 0), (90, 0, 10, 0))


# -- idempotency -----------------------------------------------------------------------------


def test_idm_001_011_014_replay_is_the_original_but_for_the_remaining_ttl() -> None:
    model = model_with()
    body = request("k", 10)
    first = model.reserve(T, body, now_ms=1000)
    model.event(T, debit("e", 500))
    again = model.reserve(T, dict(reversed(body.items())), observed_id="other", now_ms=4000)
    assert again.body == {**first.body, "remaining_ttl_ms": 57_000}
    assert len(model.reservations) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"estimate": {"unit": UNIT, "amount": 11}},
        {"ttl_ms": 60_000},
        {"metadata": {}},
        {"dry_run": False},
        {"dry_run": True},
    ],
)
def test_idm_002_004_005_any_other_body_is_a_mismatch(change: Json) -> None:
    model = model_with()
    model.reserve(T, request("k", 10))
    assert model.reserve(T, request("k", 10) | change).error == "IDEMPOTENCY_MISMATCH"


def test_idm_006_dry_run_first() -> None:
    model = model_with()
    model.reserve(T, request("k", 10, dry_run=True))
    assert model.reserve(T, request("k", 10)).error == "IDEMPOTENCY_MISMATCH"
    assert ledger(model) == (1_000_000, 0, 0, 0)


def test_idm_007_operations_and_tenants_have_their_own_keys() -> None:
    model = model_with()
    model.put_budget("tenant:other", UNIT, 100, tenant_id="other")
    assert model.decide(T, request("k", 1)).status == 200
    assert model.reserve(T, request("k", 2)).status == 200
    assert model.event(T, debit("k", 3)).status == 201
    assert model.reserve("other", request("k", 4, subject={"tenant": "other"})).status == 200


def test_idm_008_009_a_failure_leaves_no_record() -> None:
    model = model_with(5)
    assert model.reserve(T, request("k", 10)).status == 409
    assert model.fund(TENANT_SCOPE, UNIT, "CREDIT", 5)
    assert model.reserve(T, request("k", 10)).status == 200


def test_idm_010_013_no_time_remains_once_it_is_not_active() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10)))
    swept = reserved_id(model.reserve(T, request("s", 10, ttl_ms=1000)))
    model.commit(T, reservation, commit_body("c", 10))
    assert model.reserve(T, request("k", 10)).body["remaining_ttl_ms"] == 0
    model.sweep(now_ms=model.now_ms + 6001)
    replay = model.reserve(T, request("s", 10, ttl_ms=1000)).body
    assert (replay["reservation_id"], replay["remaining_ttl_ms"]) == (swept, 0)


def test_idm_015_to_021_commit_and_release_keys_live_with_the_reservation() -> None:
    model = model_with()
    first = reserved_id(model.reserve(T, request("a", 10)))
    second = reserved_id(model.reserve(T, request("b", 10)))
    done = model.commit(T, first, commit_body("c", 10))
    assert model.commit(T, first, commit_body("c", 10)) == done
    assert model.commit(T, first, commit_body("c", 9)).error == "IDEMPOTENCY_MISMATCH"
    assert model.commit(T, first, commit_body("d", 10)).error == "RESERVATION_FINALIZED"
    assert model.release(T, first, {"idempotency_key": "c"}).error == "RESERVATION_FINALIZED"
    assert model.commit(T, second, commit_body("c", 10)).status == 200
    third = reserved_id(model.reserve(T, request("t", 10)))
    released = model.release(T, third, {"idempotency_key": "r"})
    assert model.release(T, third, {"idempotency_key": "r"}) == released
    other_reason = {"idempotency_key": "r", "reason": "x"}
    assert model.release(T, third, other_reason).error == "IDEMPOTENCY_MISMATCH"
    assert ledger(model) == (999_980, 0, 20, 0)


def test_idm_022_023_extend_replays_even_after_the_lease() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10, ttl_ms=1000), now_ms=0))
    first = model.extend(T, reservation, extend_body("x", 1000))
    model.extend(T, reservation, extend_body("later", 5000))
    again = model.extend(T, reservation, extend_body("x", 1000), now_ms=500)
    assert again.body == {**first.body, "remaining_ttl_ms": 1500}
    assert model.extend(T, reservation, extend_body("x", 2)).error == "IDEMPOTENCY_MISMATCH"
    model.sweep(now_ms=20_000)
    lapsed = model.extend(T, reservation, extend_body("x", 1000))
    assert lapsed.body == {**first.body, "remaining_ttl_ms": 0}


def test_idm_027_to_031_events_and_evaluations_replay() -> None:
    model = model_with(10)
    event = model.event(T, debit("k", 10))
    assert model.event(T, debit("k", 10)) == event
    assert model.event(T, debit("k", 9)).error == "IDEMPOTENCY_MISMATCH"
    denied = model.reserve(T, request("dry", 1, dry_run=True))
    decided = model.decide(T, request("dec", 1))
    model.fund(TENANT_SCOPE, UNIT, "CREDIT", 100)
    assert model.reserve(T, request("dry", 1, dry_run=True)) == denied
    assert model.decide(T, request("dec", 1)) == decided
    assert decided.body["decision"] == "DENY"


def test_idm_034_how_long_a_key_is_known() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10), now_ms=0))
    model.extend(T, reservation, extend_body("x", 1000))
    model.decide(T, request("k", 10))
    model.event(T, debit("k", 10))
    known_until = 61_000 + 5000 + DAY_MS
    assert model.reserve(T, request("k", 11), now_ms=known_until).status == 409
    assert model.reserve(T, request("k", 11), now_ms=known_until + 1).status == 200
    assert model.decide(T, request("k", 11)).status == 200
    assert model.event(T, debit("k", 11)).status == 409
    assert model.event(T, debit("k", 11), now_ms=7 * DAY_MS + 1).status == 201


# -- tenants ---------------------------------------------------------------------------------


def test_closed_tenant_replays_then_refuses_before_any_state() -> None:
    model = model_with()
    reservation = reserved_id(model.reserve(T, request("k", 10)))
    model.extend(T, reservation, extend_body("x", 1))
    committed = model.commit(T, reservation, commit_body("c", 10))
    model.event(T, debit("e", 1))
    model.set_tenant_status(T, "CLOSED")

    assert model.reserve(T, request("k", 10)).status == 200
    assert model.extend(T, reservation, extend_body("x", 1)).status == 200
    assert model.commit(T, reservation, commit_body("c", 10)) == committed
    assert model.event(T, debit("e", 1)).status == 201
    for refused in (
        model.reserve(T, request("k", 11)),
        model.reserve(T, request("new", 10**9)),
        model.commit(T, reservation, commit_body("c", 11)),
        model.commit(T, reservation, commit_body("d", 10)),
        model.release(T, reservation, {"idempotency_key": "r"}),
        model.extend(T, reservation, extend_body("y", 1)),
        model.event(T, debit("e2", 1)),
    ):
        assert (refused.status, refused.error) == (409, "TENANT_CLOSED")
    assert model.get_reservation(T, reservation).status == 200
    assert model.commit(T, "unknown", commit_body("c", 1)).status == 404


def test_closed_tenant_is_denied_by_evaluations_and_older_records_stay() -> None:
    model = model_with()
    before = model.decide(T, request("k", 1))
    model.set_tenant_status(T, "CLOSED")
    assert model.decide(T, request("k", 1)) == before
    denied = model.decide(T, request("k", 2))
    assert denied.body == {
        "decision": "DENY",
        "reason_code": "TENANT_CLOSED",
        "affected_scopes": [TENANT_SCOPE],
    }
    assert model.decide(T, request("k", 1)) == before
    dry = model.reserve(T, request("d", 1, dry_run=True))
    assert (dry.status, dry.body["reason_code"]) == (200, "TENANT_CLOSED")
    assert "reserved" not in dry.body
    model.set_tenant_status(T, "ACTIVE")
    assert model.reserve(T, request("d", 1, dry_run=True)) == dry


def test_suspended_tenant_settles_and_reads_only() -> None:
    model = model_with()
    first = reserved_id(model.reserve(T, request("a", 10)))
    second = reserved_id(model.reserve(T, request("b", 10)))
    model.set_tenant_status(T, "SUSPENDED")
    for refused in (
        model.reserve(T, request("a", 10)),
        model.decide(T, request("a", 10)),
        model.event(T, debit("a", 10)),
        model.extend(T, first, extend_body("x", 1)),
    ):
        assert refused.status == 401
    assert model.commit(T, first, commit_body("c", 10)).status == 200
    assert model.release(T, second, {"idempotency_key": "r"}).status == 200
    assert model.balances(T, {"tenant": T}).status == 200


def test_an_unreadable_tenant_record_fails_closed() -> None:
    model = model_with()
    body = request("before", 1)
    reservation = reserved_id(model.reserve(T, body))
    model.set_tenant_status(T, "CORRUPT")
    for refused in (
        model.reserve(T, request("k", 1)),
        model.reserve(T, request("k", 1, dry_run=True)),
        model.decide(T, request("k", 1)),
        model.event(T, debit("k", 1)),
        model.commit(T, reservation, commit_body("c", 1)),
    ):
        assert (refused.status, refused.error) == (500, "INTERNAL_ERROR")
    assert model.get_reservation(T, reservation).status == 200


# -- reads -----------------------------------------------------------------------------------


def test_listing_is_the_tenants_own_and_filters_by_exact_segments() -> None:
    model = model_with()
    for key, agent in (("a", "bot-1"), ("b", "bot-10"), ("c", "Bot-1")):
        model.reserve(T, request(key, 1, subject={"tenant": T, "agent": agent}))

    def keys(**filters: str) -> list[str]:
        rows = model.list_reservations(T, filters).body["reservations"]
        return [row["idempotency_key"] for row in rows]

    assert keys() == keys(tenant=T) == keys(agent=" ") == ["a", "b", "c"]
    assert keys(agent="bot-1") == keys(agent="BOT-1") == ["a", "c"]
    assert keys(idempotency_key="b", status="ACTIVE") == ["b"]
    assert keys(workspace="none") == []
    assert model.list_reservations(T, {"tenant": "other"}).status == 403
    assert model.list_reservations("other").body == {"reservations": []}


def test_balances_show_units_apart_and_leave_out_zeros() -> None:
    model = two_level_model(100, 50, overdraft_limit=7, debt=3, is_over_limit=True)
    model.put_budget(AGENT_SCOPE, "CREDITS", 1, tenant_id=T)
    rows = model.balances(T, {"tenant": T}).body["balances"]
    assert [(row["scope_path"], row["remaining"]["unit"]) for row in rows] == [
        (TENANT_SCOPE, UNIT),
        (AGENT_SCOPE, "CREDITS"),
        (AGENT_SCOPE, UNIT),
    ]
    assert set(rows[1]) == {"scope", "scope_path", "remaining", "reserved", "spent", "allocated"}
    assert rows[2]["scope"] == "agent:bot"
    assert rows[2]["debt"]["amount"] == 3
    assert rows[2]["overdraft_limit"]["amount"] == 7
    assert rows[2]["is_over_limit"] is True
    assert len(model.balances(T, {"agent": "BOT"}).body["balances"]) == 2
    assert model.balances(T, {"agent": "none"}).body == {"balances": []}
    assert model.balances(T, {"tenant": "other"}).status == 403
    assert model.balances(T, {"tenant": ""}).status == model.balances(T).status == 400


# -- funding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "amount", "done", "allocated", "after", "over"),
    [
        ("CREDIT", 10, True, 1010, (760, 0, 200, 50), True),
        ("DEBIT", 750, True, 250, (0, 0, 200, 50), True),
        ("DEBIT", 751, False, 1000, (750, 0, 200, 50), False),
        ("RESET", 100, True, 100, (-150, 0, 200, 50), True),
        ("RESET_SPENT", 1000, True, 1000, (950, 0, 0, 50), True),
        ("REPAY_DEBT", 20, True, 1000, (770, 0, 200, 30), False),
        ("REPAY_DEBT", 60, True, 1010, (810, 0, 200, 0), False),
        ("RESET", INT64_MAX, True, INT64_MAX, (INT64_MAX - 250, 0, 200, 50), True),
        ("CREDIT", INT64_MAX, False, 1000, (750, 0, 200, 50), False),
    ],
)
def test_funding(
    operation: str, amount: int, done: bool, allocated: int, after: tuple[int, ...], over: bool
) -> None:
    model = model_with(1000, spent=200, debt=50, overdraft_limit=40)
    assert model.fund(TENANT_SCOPE, UNIT, operation, amount) is done
    assert model.budgets[TENANT_SCOPE, UNIT].allocated == allocated
    assert (ledger(model), is_over(model)) == (after, over)
    model.check_invariants()


def test_any_funding_clears_a_flag_that_no_debt_justifies() -> None:
    model = model_with(50)
    model.event(T, debit("k", 80))
    assert is_over(model)
    model.fund(TENANT_SCOPE, UNIT, "CREDIT", 0)
    assert not is_over(model)


# -- int64 -----------------------------------------------------------------------------------


def test_i64_001_002_exact_beyond_doubles() -> None:
    odd = 2**53 + 1
    model = model_with(INT64_MAX)
    reservation = reserved_id(model.reserve(T, request("k", odd)))
    model.commit(T, reservation, commit_body("c", odd))
    assert ledger(model) == (9_214_364_837_600_034_814, 0, odd, 0)
    rest = model.budgets[TENANT_SCOPE, UNIT].remaining
    assert model.reserve(T, request("all", rest)).status == 200
    assert ledger(model) == (0, rest, odd, 0)


def test_i64_002_005_the_largest_amount() -> None:
    assert model_with(INT64_MAX).reserve(T, request("k", INT64_MAX)).status == 200
    model = model_with(INT64_MAX)
    assert model.event(T, debit("k", INT64_MAX)).status == 201
    assert ledger(model) == (0, 0, INT64_MAX, 0)


def test_i64_011_debt_near_the_maximum_does_not_wrap() -> None:
    model = model_with(0, debt=INT64_MAX - 5, overdraft_limit=INT64_MAX)
    refused = model.event(T, debit("k", 6, overage_policy=AWO))
    assert refused.error == "OVERDRAFT_LIMIT_EXCEEDED"
    assert model.event(T, debit("k", 5, overage_policy=AWO)).status == 201


def test_a_change_that_would_leave_int64_is_refused_whole() -> None:
    model = two_level_model(10, 10)
    body = request("k", 5, subject=BOTH_LEVELS)
    reservation = reserved_id(model.reserve(T, body))
    assert model.fund(AGENT_SCOPE, UNIT, "RESET_SPENT", INT64_MAX, spent=INT64_MAX)
    before = dict(model.budgets)
    assert model.commit(T, reservation, commit_body("c", 5)).status == 409
    assert model.budgets == before
    assert model.get_reservation(T, reservation).body["status"] == "ACTIVE"


# -- random walks ----------------------------------------------------------------------------

VERBS = ("reserve", "commit", "release", "extend", "event", "sweep", "fund")
GOVERNANCE_VERBS = ("freeze", "unfreeze", "close", "remake")
AMOUNTS = st.integers(0, 120)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(VERBS + GOVERNANCE_VERBS),
        AMOUNTS,
        st.sampled_from(["REJECT", AIA, AWO]),
        st.booleans(),
    ),
    max_size=30,
)


def take_step(model: LedgerModel, number: int, step: tuple[str, int, str, bool]) -> None:
    verb, amount, policy, deep = step
    scope = AGENT_SCOPE if deep else TENANT_SCOPE
    subject = BOTH_LEVELS if deep else {"tenant": T}
    ids = list(model.reservations)
    picked = ids[amount % len(ids)] if ids else "none"
    key = f"k{number}"
    extra: Json = {"subject": subject, "overage_policy": policy}
    if verb == "reserve":
        model.reserve(T, request(key, amount, ttl_ms=1000, **extra))
    elif verb == "commit":
        model.commit(T, picked, commit_body(key, amount))
    elif verb == "release":
        model.release(T, picked, {"idempotency_key": key})
    elif verb == "extend":
        model.extend(T, picked, extend_body(key, 1 + amount))
    elif verb == "event":
        model.event(T, debit(key, amount, **extra))
    elif verb == "sweep":
        model.sweep(now_ms=model.now_ms + 50 * amount)
    elif verb == "fund":
        operations = ("CREDIT", "DEBIT", "RESET", "RESET_SPENT", "REPAY_DEBT")
        model.fund(scope, UNIT, operations[amount % 5], amount)
    elif verb == "freeze":
        model.freeze(scope, UNIT)
    elif verb == "unfreeze":
        model.unfreeze(scope, UNIT)
    elif verb == "close":
        model.close_budget(scope, UNIT)
    else:
        model.put_budget(scope, UNIT, amount, tenant_id=T, overdraft_limit=amount % 3 * 10)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_invariants_hold_whatever_happens(steps: list[tuple[str, int, str, bool]]) -> None:
    model = two_level_model(200, 150, overdraft_limit=30)
    for number, step in enumerate(steps):
        take_step(model, number, step)
        model.check_invariants()
