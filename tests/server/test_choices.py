"""What the contract leaves open, wording too, and this server decided."""

from __future__ import annotations

from support.tenants import Tenant, error_of, new_key


def test_a_refused_reserve_names_the_budget_that_refuses(tenant: Tenant) -> None:
    tenant.budget(f"tenant:{tenant.name}/agent:bot")
    poor = tenant.budget(f"tenant:{tenant.name}/workspace:prod", allocated=99)
    refused = tenant.reserve(100, subject=tenant.subject(workspace="prod", agent="bot"))
    assert error_of(refused) == (409, "BUDGET_EXCEEDED")
    assert f"{poor} " in f"{refused.json()['message']} "


def test_a_refused_commit_names_the_scope(tenant: Tenant) -> None:
    scope = tenant.budget(allocated=100, overdraft_limit=5)
    reservation = tenant.reserve(100, overage_policy="ALLOW_WITH_OVERDRAFT").json()
    refused = tenant.commit(reservation["reservation_id"], 200)
    assert refused.json()["error"] == "OVERDRAFT_LIMIT_EXCEEDED"
    assert refused.json()["message"].endswith(f": {scope}")


def test_a_retried_event_may_tell_another_time(tenant: Tenant) -> None:
    key = new_key()
    first = tenant.event(5, idempotency_key=key, client_time_ms=1)
    for members in ({"client_time_ms": 2}, {}):
        again = tenant.event(5, idempotency_key=key, **members)
        assert (again.status_code, again.text) == (201, first.text)
    assert tenant.amounts()["spent"] == 5


def test_a_limit_that_refuses_comes_before_a_sum_beyond_int64(tenant: Tenant) -> None:
    full = 2**63 - 4
    tenant.budget(allocated=full, remaining=1000, spent=full)
    owing = tenant.budget(f"tenant:{tenant.name}/workspace:w", allocated=0, overdraft_limit=60)
    subject = tenant.subject(workspace="w")
    before = tenant.stored_budget(), tenant.stored_budget(owing)
    for amount, code in ((101, "OVERDRAFT_LIMIT_EXCEEDED"), (50, "BUDGET_EXCEEDED")):
        refused = tenant.event(amount, subject=subject, overage_policy="ALLOW_WITH_OVERDRAFT")
        assert error_of(refused) == (409, code)
    assert (tenant.stored_budget(), tenant.stored_budget(owing)) == before


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
