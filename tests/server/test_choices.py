"""What the contract leaves open, and this server decided."""

from __future__ import annotations

from support.tenants import Tenant, error_of, new_key


def test_a_refused_reserve_names_the_budget_that_refuses(tenant: Tenant) -> None:
    tenant.budget(f"tenant:{tenant.name}/agent:bot")
    poor = tenant.budget(f"tenant:{tenant.name}/workspace:prod", allocated=99)
    refused = tenant.reserve(100, subject=tenant.subject(workspace="prod", agent="bot"))
    assert error_of(refused) == (409, "BUDGET_EXCEEDED")
    assert f"{poor} " in f"{refused.json()['message']} "


def test_a_retried_event_may_tell_another_time(tenant: Tenant) -> None:
    key = new_key()
    first = tenant.event(5, idempotency_key=key, client_time_ms=1)
    for members in ({"client_time_ms": 2}, {}):
        again = tenant.event(5, idempotency_key=key, **members)
        assert (again.status_code, again.text) == (201, first.text)
    assert tenant.amounts()["spent"] == 5
