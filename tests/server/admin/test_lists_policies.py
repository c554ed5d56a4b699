"""listPolicies: a tenant's, by id."""

from __future__ import annotations

import pytest
from support.adminlists import POLICIES, ids, operators, put_policy, refused, tenants_own, unique
from support.operator import Operator
from support.server import CyclesServer
from support.tenants import Tenant, error_of


@pytest.fixture
def tenant(operator: Operator) -> Tenant:
    return operator.tenant()


def test_both_callers_see_them_by_id(operator: Operator, tenant: Tenant) -> None:
    made = sorted(put_policy(tenant) for _ in range(5))
    put_policy(operator.tenant())
    assert ids(tenants_own(tenant), POLICIES, limit=2) == made
    assert ids(operators(operator), POLICIES, tenant_id=tenant.name, limit=2) == made
    other = operator.tenant().name
    assert ids(tenants_own(tenant), POLICIES, tenant_id=other) == made


def test_a_policy_is_shown_as_it_is_stored(tenant: Tenant) -> None:
    told = {"name": "p", "priority": 2, "caps": {"max_tokens": 1, "tool_allowlist": []}}
    policy_id = put_policy(tenant, **told)
    assert tenants_own(tenant).page(POLICIES) == {
        "policies": [
            {
                "policy_id": policy_id,
                "scope_pattern": f"tenant:{tenant.name}/*",
                "status": "ACTIVE",
                "created_at": "2026-01-01T00:00:00.123456789Z",
                **told,
            }
        ],
        "has_more": False,
    }


@pytest.mark.parametrize("named", [{}, {"tenant_id": ""}, {"tenant_id": "  "}])
def test_the_operator_must_say_whose(operator: Operator, named: dict[str, str]) -> None:
    status, code, message = refused(operators(operator), POLICIES, **named)
    assert (status, code) == (400, "INVALID_REQUEST")
    assert "tenant_id" in message


def test_a_tenant_that_is_none(operator: Operator) -> None:
    page = operators(operator).page(POLICIES, tenant_id=f"nobody-{unique()}")
    assert page == {"policies": [], "has_more": False}


def test_by_pattern_and_status(tenant: Tenant) -> None:
    own = tenants_own(tenant)
    pattern = f"tenant:{tenant.name}/app:*"
    exact = put_policy(tenant, scope_pattern=pattern)
    disabled = put_policy(tenant, status="DISABLED")
    assert ids(own, POLICIES, scope_pattern=pattern) == [exact]
    assert ids(own, POLICIES, scope_pattern=pattern.upper()) == [exact]
    assert ids(own, POLICIES, scope_pattern=pattern[:-1]) == []
    assert ids(own, POLICIES, status="DISABLED") == [disabled]
    assert ids(own, POLICIES, status="ACTIVE") == [exact]
    assert set(ids(own, POLICIES, status="", scope_pattern="")) == {exact, disabled}
    assert refused(own, POLICIES, status="x")[:2] == (400, "INVALID_REQUEST")


def test_what_no_list_of_policies_knows_is_ignored(tenant: Tenant) -> None:
    policy = put_policy(tenant)
    odd = {"references_action_kind": "pay", "sort_by": "bogus", "sort_dir": "up", "foo": "bar"}
    assert ids(tenants_own(tenant), POLICIES, **odd) == [policy]


def test_a_limit_has_no_bounds_and_is_held_within_some(tenant: Tenant) -> None:
    own = tenants_own(tenant)
    for _ in range(101):
        put_policy(tenant)
    for limit, rows in ((0, 1), (-1, 1), (1000, 100)):
        assert len(own.page(POLICIES, limit=limit)["policies"]) == rows
    assert len(own.page(POLICIES)["policies"]) == 50


def test_a_record_that_cannot_be_read_is_logged_and_left_out(
    tenant: Tenant, admin: CyclesServer
) -> None:
    good, bad, worse = (put_policy(tenant) for _ in range(3))
    tenant.redis.set(tenant.names.policy(bad), "[]")
    put_policy(tenant, worse, status="ON")
    assert ids(tenants_own(tenant), POLICIES) == [good]
    lines = admin.log.read_text().splitlines()
    assert [sum(one in line for line in lines) for one in (bad, worse)] == [1, 1]


def test_who_may(tenant: Tenant) -> None:
    put_policy(tenant)
    for allowed in ("policies:read", "admin:read"):
        assert len(ids(tenants_own(tenant, permissions=[allowed]), POLICIES)) == 1
    for lacking in ("policies:write", "admin:write", "budgets:read"):
        answer = tenants_own(tenant, permissions=[lacking]).get(POLICIES)
        assert error_of(answer) == (403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize(
    "extension",
    [{"has_action_quotas": "zzz"}, {"has_action_quotas": ""}, {"references_action_kind": "x" * 80}],
)
def test_parameters_of_an_extension_are_ignored(tenant: Tenant, extension: dict[str, str]) -> None:
    """Whatever they hold: the contract grows by parameters that others MUST ignore."""
    policy_id = put_policy(tenant)
    assert ids(tenants_own(tenant), POLICIES, **extension) == [policy_id]
