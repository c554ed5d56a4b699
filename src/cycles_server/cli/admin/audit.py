"""``cycles-server audit``."""

from __future__ import annotations

from typing import Any

import click

from cycles_server.cli.admin.client import AUDIT_LOGS
from cycles_server.cli.admin.options import given, limit_option, search_option, sort_options
from cycles_server.cli.admin.output import Columns, member, shown
from cycles_server.cli.admin.session import Session, speaks_to_admin

_LISTS = ("operation", "resource_type", "error_code", "error_code_exclude")
_AMOUNTS = ("amount", "allocated", "overdraft_limit")
_BALANCES = ("previous_", "new_")
_LEFT_OUT = ("actor_type", "idempotency_key", "method")


def _resource(entry: Any) -> str:
    return " ".join(filter(None, (entry.get("resource_type"), entry.get("resource_id"))))


def _outcome(entry: Any) -> str:
    return " ".join(filter(None, (str(entry.get("status", "")), entry.get("error_code"))))


def _caller(entry: Any) -> str:
    if entry.get("key_id"):
        return str(entry["key_id"])
    return "nobody" if entry.get("tenant_id") == "__unauth__" else "operator"


def _details(entry: Any) -> str:
    """What was asked, amounts in their unit; --json has the rest."""
    facts = dict(entry.get("metadata") or {})
    unit = facts.pop("unit", None)
    told = []
    for name, value in facts.items():
        if name in _AMOUNTS and unit:
            told.append(f"{name}={shown({'unit': unit, 'amount': value})}")
        elif name not in _LEFT_OUT and not (isinstance(value, int) and name.startswith(_BALANCES)):
            told.append(f"{name}={shown(value)}")
    return ", ".join(told)


_COLUMNS: Columns = {
    "time": member("timestamp"),
    "tenant": member("tenant_id"),
    "operation": member("operation"),
    "resource": _resource,
    "outcome": _outcome,
    "by": _caller,
    "details": _details,
}


@click.group()
def audit() -> None:
    """See who did what."""


@audit.command("list")
@click.option("--tenant", "tenant_id", help="Only about this tenant; __admin__, __unauth__: none.")
@click.option("--key-id", help="Only by this key.")
@click.option("--operation", multiple=True, help="Only these, e.g. fundBudget. Repeatable.")
@click.option("--status", type=int, help="Only answered with this HTTP status.")
@click.option("--status-min", type=int, help="Only with this HTTP status or a higher one.")
@click.option("--status-max", type=int, help="Only with this HTTP status or a lower one.")
@click.option("--resource-type", multiple=True, help="Only about these kinds. Repeatable.")
@click.option("--resource-id", help="Only about this object.")
@click.option("--error-code", multiple=True, help="Only refused for this. Repeatable.")
@click.option("--error-code-exclude", multiple=True, help="Without these. Repeatable.")
@click.option("--from", "from_", help="From this time on, e.g. 2027-01-31T00:00:00Z.")
@click.option("--to", help="Up to this time.")
@click.option("--trace-id", help="Only of this trace.")
@click.option("--request-id", help="Only of this request.")
@search_option
@sort_options("timestamp", "operation", "resource_type", "tenant_id", "key_id", "status")
@limit_option
@speaks_to_admin
def list_audit(session: Session, limit: int, from_: str | None, **filters: Any) -> None:
    """List audit entries, the latest first.

    Example: cycles-server audit list --tenant acme --operation fundBudget
    """
    query = given(**{**filters, "from": from_})
    query.update({name: ",".join(query[name]) for name in _LISTS if name in query})
    session.show_list(AUDIT_LOGS, "logs", query, limit, _COLUMNS)
