"""Reserve, commit, release, extend, event and decide: what each does to the budgets."""

from __future__ import annotations

import pytest
from support.tenants import Tenant, error_of, new_key

SCOPES = ("", "/workspace:prod", "/workspace:prod/agent:bot")
SUBJECT = {"workspace": "prod", "agent": "bot"}


def three_scopes(tenant: Tenant) -> list[str]:
    return [tenant.budget(f"tenant:{tenant.name}{tail}") for tail in SCOPES]


def test_reserve_holds_on_every_scope(tenant: Tenant) -> None:
    scopes = three_scopes(tenant)
    answer = tenant.reserve(1000, subject=tenant.subject(**SUBJECT))
    body = answer.json()
    assert answer.status_code == 200
    assert body["decision"] == "ALLOW"
    assert body["affected_scopes"] == scopes
    assert body["scope_path"] == scopes[-1]
    assert body["reserved"] == {"unit": "TOKENS", "amount": 1000}
    assert [row["scope_path"] for row in body["balances"]] == scopes
    assert [row["scope"] for row in body["balances"]] == [
        f"tenant:{tenant.name}",
        "workspace:prod",
        "agent:bot",
    ]
    for scope in scopes:
        assert tenant.amounts(scope) == {
            "allocated": 1_000_000,
            "remaining": 999_000,
            "reserved": 1000,
            "spent": 0,
            "debt": 0,
        }


def test_commit_charges_and_returns_the_rest(tenant: Tenant) -> None:
    reservation = tenant.reserved(5000)
    body = tenant.commit(reservation, 3000).json()
    assert body["status"] == "COMMITTED"
    assert body["charged"]["amount"] == 3000
    assert body["released"]["amount"] == 2000
    assert tenant.amounts()["remaining"] == 997_000
    assert tenant.amounts()["spent"] == 3000
    assert tenant.amounts()["reserved"] == 0


def test_release_returns_everything(tenant: Tenant) -> None:
    before = tenant.amounts()
    body = tenant.release(tenant.reserved(5000)).json()
    assert body == {
        "status": "RELEASED",
        "released": {"unit": "TOKENS", "amount": 5000},
        "balances": body["balances"],
    }
    assert tenant.amounts() == before


def test_extend_counts_from_the_current_expiry(tenant: Tenant) -> None:
    answer = tenant.reserve(1, ttl_ms=30_000).json()
    body = tenant.extend(answer["reservation_id"], 10_000).json()
    assert body["expires_at_ms"] == answer["expires_at_ms"] + 10_000
    assert body["status"] == "ACTIVE"
    assert 30_000 < body["remaining_ttl_ms"] <= 40_000


def test_event_debits_directly(tenant: Tenant) -> None:
    answer = tenant.event(1000)
    assert answer.status_code == 201
    assert answer.json()["status"] == "APPLIED"
    assert "charged" not in answer.json()
    assert tenant.amounts()["spent"] == 1000


def test_a_refused_commit_names_the_scope(tenant: Tenant) -> None:
    scope = tenant.budget(allocated=100, overdraft_limit=5)
    reservation = tenant.reserve(100, overage_policy="ALLOW_WITH_OVERDRAFT").json()
    refused = tenant.commit(reservation["reservation_id"], 200)
    assert refused.json()["error"] == "OVERDRAFT_LIMIT_EXCEEDED"
    assert refused.json()["message"].endswith(f": {scope}")


def test_balances_are_worded_alike_by_script_and_server(tenant: Tenant) -> None:
    """A dry run's balances are JSON of its script, those of a list the server's own."""
    bare = tenant.budget(f"tenant:{tenant.name}/workspace:bare")
    tenant.budget(
        f"{bare}/app:owing", debt=7, overdraft_limit=9, is_over_limit="true", remaining=-(2**60)
    )
    subject = {"tenant": tenant.name, "workspace": "bare", "app": "owing"}
    dry = tenant.reserve(10, dry_run=True, subject=subject).json()
    assert dry["reason_code"] == "OVERDRAFT_LIMIT_EXCEEDED"
    assert [set(row) & {"debt", "is_over_limit"} for row in dry["balances"]][1:] == [
        set(),
        {"debt", "is_over_limit"},
    ]
    listed = tenant.http.get("/v1/balances", params={"tenant": tenant.name}).json()
    assert dry["balances"] == listed["balances"]


def test_decide_and_dry_run_hold_nothing(tenant: Tenant) -> None:
    before = tenant.amounts()
    assert tenant.decide(10).json() == {
        "decision": "ALLOW",
        "affected_scopes": [f"tenant:{tenant.name}"],
    }
    dry = tenant.reserve(10, dry_run=True).json()
    assert dry["decision"] == "ALLOW"
    assert not {"reservation_id", "expires_at_ms", "remaining_ttl_ms"} & set(dry)
    denied = tenant.reserve(2_000_000, dry_run=True).json()
    assert (denied["decision"], denied["reason_code"]) == ("DENY", "BUDGET_EXCEEDED")
    assert tenant.amounts() == before


@pytest.mark.parametrize(
    ("policy", "actual", "answer"),
    [
        ("REJECT", 150, (409, "BUDGET_EXCEEDED")),
        ("ALLOW_IF_AVAILABLE", 150, (200, "")),
        ("ALLOW_WITH_OVERDRAFT", 150, (200, "")),
    ],
)
def test_overage_policies(
    tenant: Tenant, policy: str, actual: int, answer: tuple[int, str]
) -> None:
    tenant.budget(allocated=100, overdraft_limit=100)
    reservation = tenant.reserved(90, overage_policy=policy)
    got = tenant.commit(reservation, actual)
    assert error_of(got) == answer
    amounts = tenant.amounts()
    assert amounts["allocated"] == sum(
        amounts[name] for name in ("remaining", "reserved", "spent", "debt")
    )
    if policy == "REJECT":
        assert amounts["reserved"] == 90
        assert tenant.commit(reservation, 90).status_code == 200
    elif policy == "ALLOW_IF_AVAILABLE":
        assert got.json()["charged"]["amount"] == 100
        assert amounts["debt"] == 0
        assert tenant.stored_budget()["is_over_limit"] == "true"
        assert error_of(tenant.reserve(0)) == (409, "OVERDRAFT_LIMIT_EXCEEDED")
    else:
        assert got.json()["charged"]["amount"] == 150
        assert (amounts["spent"], amounts["debt"], amounts["remaining"]) == (90, 60, -50)


def test_a_refused_reserve_leaves_every_scope_alone(tenant: Tenant) -> None:
    scopes = three_scopes(tenant)
    tenant.budget(scopes[1], allocated=99)
    before = [tenant.amounts(scope) for scope in scopes]
    refused = tenant.reserve(100, subject=tenant.subject(**SUBJECT))
    assert error_of(refused) == (409, "BUDGET_EXCEEDED")
    assert scopes[1] in refused.json()["message"]
    assert [tenant.amounts(scope) for scope in scopes] == before


def test_replays_answer_alike_and_change_nothing(tenant: Tenant) -> None:
    body = tenant.reserve_body(100, ttl_ms=60_000)
    first = tenant.http.post("/v1/reservations", json=body).json()
    tenant.event(5)
    again = tenant.http.post("/v1/reservations", json=dict(reversed(body.items()))).json()
    assert again.pop("remaining_ttl_ms") <= first.pop("remaining_ttl_ms")
    assert again == first
    key = new_key()
    commits = [tenant.commit(first["reservation_id"], 70, idempotency_key=key) for _ in range(3)]
    assert len({commit.text for commit in commits}) == 1
    assert tenant.amounts()["spent"] == 75
    mismatch = tenant.commit(first["reservation_id"], 71, idempotency_key=key)
    assert error_of(mismatch) == (409, "IDEMPOTENCY_MISMATCH")
    finalized = tenant.commit(first["reservation_id"], 70)
    assert error_of(finalized) == (409, "RESERVATION_FINALIZED")


def test_a_retried_event_may_tell_another_time(tenant: Tenant) -> None:
    key = new_key()
    first = tenant.event(5, idempotency_key=key, client_time_ms=1)
    for members in ({"client_time_ms": 2}, {}):
        again = tenant.event(5, idempotency_key=key, **members)
        assert (again.status_code, again.text) == (201, first.text)
    assert tenant.amounts()["spent"] == 5
