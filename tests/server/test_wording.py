"""How refusals and balances are worded: what the contract leaves to the server."""

from __future__ import annotations

from support.tenants import Tenant


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
