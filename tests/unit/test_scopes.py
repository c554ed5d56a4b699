"""Whose a budget is, and what a scope path names."""

from __future__ import annotations

import pytest

from cycles_server.scopes import counts_for, read_scope, tenant_in


@pytest.mark.parametrize(
    ("tenant", "owner", "scope", "counts"),
    [
        ("acme", "acme", "tenant:acme", True),
        ("acme", "acme", "agent:bot", True),
        ("acme", "other", "tenant:acme", False),
        ("acme", "", "tenant:acme", True),
        ("acme", "", "tenant:acme/agent:bot", True),
        ("Acme", "", "tenant:acme", True),
        ("Acme", "acme", "tenant:acme", False),
        ("acme", "", "tenant:acme2", False),
        ("acme", "", "agent:bot", False),
        ("", "", "agent:bot", False),
    ],
)
def test_whose_a_budget_is(tenant: str, owner: str, scope: str, counts: bool) -> None:
    assert counts_for(tenant, owner, scope) is counts


def test_the_levels_of_a_scope() -> None:
    assert read_scope("tenant:acme/agent:bot") == {"tenant": "acme", "agent": "bot"}
    assert tenant_in("tenant:acme/agent:bot") == "acme"
    assert tenant_in("agent:bot") == ""
