"""Who may call an operation."""

from __future__ import annotations

import pytest

from cycles_server.auth.access import PUBLIC, Access, allow, require
from cycles_server.auth.principal import Principal
from cycles_server.auth.records import TenantPolicy
from cycles_server.refusal import Refusal

ADMIN = Principal(None, "operator", frozenset())
SUSPENDED = TenantPolicy(suspended=True)


def caller(*permissions: str, policy: TenantPolicy | None = None) -> Principal:
    return Principal("acme", "key_1", frozenset(permissions), policy=policy or TenantPolicy())


def refusal(access: Access, principal: Principal) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        require(access, principal)
    return caught.value.code, str(caught.value)


def test_any_one_of_the_permissions_lets_in() -> None:
    access = allow("balances:read", "budgets:read")
    require(access, caller("budgets:read"))
    require(access, caller("other", "balances:read"))
    require(PUBLIC, caller())


def test_a_key_without_any_is_told_which() -> None:
    access = allow("budgets:read", "balances:read")
    for held in ((), ("balances",), ("balances:*",), ("BALANCES:READ",)):
        code, message = refusal(access, caller(*held))
        assert code == "FORBIDDEN"
        assert message.endswith("balances:read or budgets:read")


def test_a_suspended_tenant_does_what_stays_open() -> None:
    suspended = caller("p", policy=SUSPENDED)
    assert refusal(allow("p"), suspended)[0] == "UNAUTHORIZED"
    require(allow("p", while_suspended=True), suspended)
    # Suspension comes first: the key learns nothing of what it may do.
    assert refusal(allow("other"), suspended)[0] == "UNAUTHORIZED"
    assert refusal(allow("other", while_suspended=True), suspended)[0] == "FORBIDDEN"


def test_the_operator_may_call_all() -> None:
    require(allow("p"), ADMIN)


def test_a_forgotten_permission_opens_nothing() -> None:
    with pytest.raises(ValueError, match="name a permission"):
        allow()
