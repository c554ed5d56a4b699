"""What is made through the admin plane where it is not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_server.cli.admin.client import API_KEYS, BUDGETS, TENANTS, AdminApi, Refused, segment


def provide_tenant(api: AdminApi, tenant_id: str) -> str:
    """Make a tenant; one that exists is left alone, whatever its name. Returns its status.

    Raises:
        AdminError: it cannot be made.
    """
    try:
        tenant = api.call("POST", TENANTS, body={"tenant_id": tenant_id, "name": tenant_id})
    except Refused as refused:
        if refused.code != "DUPLICATE_RESOURCE":
            raise
        tenant = api.call("GET", f"{TENANTS}/{segment(tenant_id)}")
    return str(tenant["status"])


def provide_budget(api: AdminApi, tenant_id: str, scope: str, amount: Mapping[str, Any]) -> None:
    """Make a budget with an amount to spend; one that exists keeps its money.

    Args:
        amount: the contract's Amount.

    Raises:
        AdminError: it cannot be made.
    """
    body = {"tenant_id": tenant_id, "scope": scope, "unit": amount["unit"], "allocated": amount}
    try:
        api.call("POST", BUDGETS, body=body)
    except Refused as refused:
        if refused.code != "DUPLICATE_RESOURCE":
            raise


def create_key(api: AdminApi, tenant_id: str, name: str) -> str:
    """Make an API key, and return its secret.

    Raises:
        AdminError: it cannot be made.
    """
    made = api.call("POST", API_KEYS, body={"tenant_id": tenant_id, "name": name})
    return str(made["key_secret"])
