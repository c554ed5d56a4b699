"""The admin plane's getBalances: the whole ledgers of a key's tenant."""

from __future__ import annotations

import pytest
from support.adminlists import BALANCES, BUDGETS, ids, put_budget, refused, tenants_own
from support.operator import Operator
from support.reading import Reader
from support.server import ADMIN_KEY
from support.tenants import Tenant, error_of


@pytest.fixture
def tenant(operator: Operator) -> Tenant:
    return operator.tenant()


def test_whole_ledgers_in_the_order_of_their_names(operator: Operator, tenant: Tenant) -> None:
    for below in ("", "/agent:b", "/agent:a"):
        operator.budget(tenant, 500, below)
        operator.budget(tenant, 500, below, unit="CREDITS")
    other = operator.tenant()
    operator.budget(other)
    own = tenants_own(tenant)
    rows = own.rows(BALANCES, "balances", limit=2, tenant_id=other.name)
    assert rows == own.rows(BUDGETS, "ledgers")
    keys = [tenant.names.budget(row["scope"], row["unit"]) for row in rows]
    assert keys == sorted(keys)
    assert len(keys) == 6
    assert {"debt", "overdraft_limit", "is_over_limit", "ledger_id", "tenant_id"} <= rows[0].keys()


def test_in_every_status(tenant: Tenant) -> None:
    made = {
        put_budget(tenant, f"/agent:{status}", status=status)
        for status in ("ACTIVE", "FROZEN", "CLOSED")
    }
    assert set(ids(tenants_own(tenant), BALANCES)) == made


def test_the_last_page_names_no_further_one(tenant: Tenant) -> None:
    put_budget(tenant)
    page = tenants_own(tenant).page(BALANCES)
    assert page.keys() == {"balances", "has_more"}
    assert page["has_more"] is False


@pytest.mark.parametrize("odd", [{"limit": 0}, {"limit": 101}, {"unit": "x"}, {"cursor": "x"}])
def test_what_is_refused(tenant: Tenant, odd: dict[str, str]) -> None:
    assert refused(tenants_own(tenant), BALANCES, **odd)[:2] == (400, "INVALID_REQUEST")


def test_by_prefix_and_unit(tenant: Tenant) -> None:
    own = tenants_own(tenant)
    found = put_budget(tenant, "/workspace:w1", unit="CREDITS")
    below = put_budget(tenant, "/workspace:w1/agent:a")
    put_budget(tenant, "/workspace:w10", unit="CREDITS")
    prefix = f"tenant:{tenant.name}/WORKSPACE:W1"
    assert set(ids(own, BALANCES, scope_prefix=prefix)) == {found, below}
    assert ids(own, BALANCES, scope_prefix=prefix, unit="CREDITS") == [found]
    assert len(ids(own, BALANCES, scope_prefix="", unit="")) == 3


def test_a_ledger_that_cannot_be_read_is_never_left_out(tenant: Tenant) -> None:
    put_budget(tenant, debt="1.5")
    assert refused(tenants_own(tenant), BALANCES)[:2] == (500, "INTERNAL_ERROR")


def test_who_may(operator: Operator, tenant: Tenant) -> None:
    put_budget(tenant)
    for allowed in ("balances:read", "admin:read"):
        assert len(ids(tenants_own(tenant, permissions=[allowed]), BALANCES)) == 1
    for lacking in ("budgets:read", "admin:write"):
        answer = tenants_own(tenant, permissions=[lacking]).get(BALANCES)
        assert error_of(answer) == (403, "INSUFFICIENT_PERMISSIONS")
    admin_alone = Reader(operator.url, ADMIN_KEY, header="X-Admin-API-Key")
    assert error_of(admin_alone.get(BALANCES)) == (401, "UNAUTHORIZED")
    wrong = {"X-Cycles-API-Key": tenant.secret, "X-Admin-API-Key": "wrong"}
    assert operator.http.get(BALANCES, headers=wrong).status_code == 200
