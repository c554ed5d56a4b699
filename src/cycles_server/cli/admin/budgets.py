"""``cycles-server budgets``."""

from __future__ import annotations

import uuid
from typing import Any

import click

from cycles_server.cli.admin.client import BUDGETS, AdminError
from cycles_server.cli.admin.options import (
    choice,
    given,
    limit_option,
    metadata_option,
    overage_option,
    read_amount,
    search_option,
    sort_options,
    unit_option,
)
from cycles_server.cli.admin.output import Columns, member, print_record, print_table
from cycles_server.cli.admin.session import Session, speaks_to_admin
from cycles_server.scopes import UNITS, tenant_in

_COLUMNS: Columns = {
    "scope": member("scope"),
    "allocated": member("allocated"),
    "remaining": member("remaining"),
    "reserved": member("reserved"),
    "spent": member("spent"),
    "debt": member("debt"),
    "status": member("status"),
}
_FUNDINGS = ("CREDIT", "DEBIT", "RESET", "RESET_SPENT", "REPAY_DEBT")
_FUNDED = ("allocated", "remaining", "spent", "debt")

_scope_argument = click.argument("scope")
_tenant_option = click.option(
    "--tenant", "tenant_id", help="Whose it is; by default the tenant that SCOPE begins with."
)
_reason_option = click.option("--reason", help="Why; kept in the audit entry.")


@click.group()
def budgets() -> None:
    """Make, list, look up, fund, change, freeze and unfreeze budgets."""


@budgets.command()
@_scope_argument
@click.argument("amount", callback=read_amount)
@_tenant_option
@click.option(
    "--overdraft-limit", callback=read_amount, metavar="AMOUNT", help="The most it may owe."
)
@overage_option
@click.option(
    "--rollover-policy",
    type=choice("NONE", "CARRY_FORWARD", "CAP_AT_ALLOCATED"),
    help="Kept with the budget, for whoever ends its period.",
)
@click.option("--period-start", help="Kept with the budget, e.g. 2027-01-01T00:00:00Z.")
@click.option("--period-end", help="The same.")
@metadata_option
@speaks_to_admin
def create(
    session: Session, scope: str, amount: dict[str, Any], tenant_id: str | None, **members: Any
) -> None:
    """Make a budget with an amount to spend.

    SCOPE is what it is for; AMOUNT is dollars, or a whole number with its unit.

    Example: cycles-server budgets create tenant:acme/agent:bot 5000:TOKENS
    """
    body = {
        "tenant_id": _owner(scope, tenant_id),
        "scope": scope,
        "unit": amount["unit"],
        "allocated": amount,
        **given(**members),
    }
    session.show(session.api.call("POST", BUDGETS, body=body))


@budgets.command("list")
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--scope-prefix", help="Only this scope and those below it.")
@click.option("--unit", type=choice(*UNITS), help="Only those in this unit.")
@click.option("--status", type=choice("ACTIVE", "FROZEN", "CLOSED"), help="Only these.")
@click.option(
    "--over-limit/--within-limit", default=None, help="Only those over, or within, their limit."
)
@click.option("--has-debt/--no-debt", default=None, help="Only those that owe, or do not.")
@click.option("--utilization-min", type=float, help="Only those spent to this share, 0 to 1.")
@click.option("--utilization-max", type=float, help="Only those not spent beyond this share.")
@search_option
@sort_options(
    "tenant_id", "scope", "unit", "status", "commit_overage_policy", "utilization", "debt"
)
@limit_option
@speaks_to_admin
def list_budgets(session: Session, limit: int, **query: Any) -> None:
    """List budgets.

    Example: cycles-server budgets list --tenant acme --utilization-min 0.9
    """
    session.show_list(BUDGETS, "ledgers", query, limit, _COLUMNS)


@budgets.command()
@_scope_argument
@unit_option
@speaks_to_admin
def get(session: Session, scope: str, unit: str) -> None:
    """Show a budget.

    SCOPE is what it is for.

    Example: cycles-server budgets get tenant:acme
    """
    query = {"scope": scope, "unit": unit}
    session.show(session.api.call("GET", f"{BUDGETS}/lookup", query=query))


@budgets.command()
@_scope_argument
@click.argument("amount", callback=read_amount)
@click.option(
    "--operation",
    type=choice(*_FUNDINGS),
    default="CREDIT",
    show_default=True,
    help="CREDIT adds and DEBIT takes away; RESET sets the allocation, RESET_SPENT begins a "
    "period with it; REPAY_DEBT pays what is owed.",
)
@click.option(
    "--spent",
    callback=read_amount,
    metavar="AMOUNT",
    help="What RESET_SPENT begins with; 0 by default.",
)
@_reason_option
@_tenant_option
@click.option(
    "--idempotency-key",
    help="Of a funding that is to be repeated: it takes effect once. By default a new one.",
)
@metadata_option
@speaks_to_admin
def fund(
    session: Session,
    scope: str,
    amount: dict[str, Any],
    tenant_id: str | None,
    idempotency_key: str | None,
    **members: Any,
) -> None:
    """Change what a budget has, once for each idempotency key.

    SCOPE is what the budget is for; AMOUNT is dollars, or a whole number with its unit.

    Example: cycles-server budgets fund tenant:acme '$5' --reason 'ticket 4711'
    """
    if members.get("spent") is not None and members["operation"] != "RESET_SPENT":
        raise click.UsageError("--spent is for --operation reset_spent")
    query = {"tenant_id": _owner(scope, tenant_id), "scope": scope, "unit": amount["unit"]}
    key = idempotency_key or str(uuid.uuid4())
    if idempotency_key is None:
        # Before anything is sent, so that it is known whatever happens to this command.
        click.echo(f"idempotency key  {key}", err=True)
    body = {"amount": amount, "idempotency_key": key, **given(**members)}
    try:
        funded = session.api.call("POST", f"{BUDGETS}/fund", query=query, body=body)
    except AdminError as error:
        if error.may_have_worked:
            error.add_note(f"it may have taken effect: repeat with --idempotency-key {key}")
        raise
    if session.as_json:
        session.show(funded)
        return
    print_record({"budget": scope, "operation": funded["operation"]})
    print_table(
        [name for name in _FUNDED if f"new_{name}" in funded],
        {
            "": lambda name: name,
            "before": lambda name: funded.get(f"previous_{name}"),
            "after": lambda name: funded[f"new_{name}"],
        },
    )


@budgets.command()
@_scope_argument
@unit_option
@click.option(
    "--overdraft-limit", callback=read_amount, metavar="AMOUNT", help="The most it may owe."
)
@overage_option
@metadata_option
@speaks_to_admin
def update(session: Session, scope: str, unit: str, **members: Any) -> None:
    """Change a budget's settings; what is not named stays, and so does its money.

    SCOPE is what it is for.

    Example: cycles-server budgets update tenant:acme --overdraft-limit '$0.50'
    """
    body = given(**members)
    if not body:
        raise click.UsageError("nothing to change: name an option")
    query = {"scope": scope, "unit": unit}
    session.show(session.api.call("PATCH", BUDGETS, query=query, body=body))


@budgets.command()
@_scope_argument
@unit_option
@_reason_option
@speaks_to_admin
def freeze(session: Session, scope: str, unit: str, reason: str | None) -> None:
    """Stop a budget: nothing is reserved or funded until it is unfrozen.

    SCOPE is what it is for.

    Example: cycles-server budgets freeze tenant:acme --reason 'under review'
    """
    _set_status(session, "freeze", scope, unit, reason)


@budgets.command()
@_scope_argument
@unit_option
@_reason_option
@speaks_to_admin
def unfreeze(session: Session, scope: str, unit: str, reason: str | None) -> None:
    """Let a frozen budget work again.

    SCOPE is what it is for.

    Example: cycles-server budgets unfreeze tenant:acme
    """
    _set_status(session, "unfreeze", scope, unit, reason)


def _set_status(session: Session, action: str, scope: str, unit: str, reason: str | None) -> None:
    query = {"scope": scope, "unit": unit}
    body = given(reason=reason)
    session.show(session.api.call("POST", f"{BUDGETS}/{action}", query=query, body=body))


def _owner(scope: str, named: str | None) -> str:
    owner = named or tenant_in(scope)
    if not owner:
        raise click.UsageError(f"{scope!r} does not begin with its tenant: add --tenant")
    return owner
