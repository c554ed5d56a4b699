"""``provision``: a change to what was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.execution.context import CaseContext
from cycles_conformance.provisioners import Change


def run_change(context: CaseContext, step: Mapping[str, Any]) -> None:
    """Raises ProvisioningError."""
    context.target.provisioner.change(context.prepared, _change(context, step["provision"]))


def _change(context: CaseContext, change: Mapping[str, Any]) -> Change:
    [(kind, argument)] = change.items()
    unit = str(context.known["unit"])
    if kind == "revoke":
        return Change(kind, key=argument)
    if kind.endswith("_tenant"):
        return Change(kind, tenant=argument)
    if isinstance(argument, str):
        return Change(kind, scope=argument, unit=unit)
    details = context.values("tenant").resolve(argument)
    return Change(
        kind,
        tenant=details.get("tenant", "tenant"),
        scope=details.get("scope", ""),
        unit=details.get("unit", unit),
        amount=details.get("amount", 0),
    )
