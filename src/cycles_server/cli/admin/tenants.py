"""``cycles-server tenants``."""

from __future__ import annotations

from typing import Any

import click

from cycles_server.cli.admin.client import TENANTS, segment
from cycles_server.cli.admin.options import (
    OVERAGE,
    choice,
    given,
    lifetime_options,
    limit_option,
    metadata_option,
    search_option,
    sort_options,
)
from cycles_server.cli.admin.output import Columns, member
from cycles_server.cli.admin.session import Session, speaks_to_admin

_COLUMNS: Columns = {
    "tenant": member("tenant_id"),
    "name": member("name"),
    "status": member("status"),
    "parent": member("parent_tenant_id"),
    "created": member("created_at"),
}

_overage_option = click.option(
    "--overage-policy",
    "default_commit_overage_policy",
    type=choice(*OVERAGE),
    help="What becomes of commits above their reservation.",
)


@click.group()
def tenants() -> None:
    """Make, look up, change, suspend and close tenants."""


@tenants.command()
@click.argument("tenant_id")
@click.option("--name", help="The tenant's name for people; its id by default.")
@click.option("--parent", "parent_tenant_id", help="The tenant above it.")
@_overage_option
@lifetime_options
@click.option(
    "--expiry-policy",
    "reservation_expiry_policy",
    type=choice("AUTO_RELEASE", "MANUAL_CLEANUP", "GRACE_ONLY"),
    help="What becomes of an expired reservation.",
)
@metadata_option
@speaks_to_admin
def create(session: Session, tenant_id: str, name: str | None, **members: Any) -> None:
    """Make a tenant; one that exists under this id and name is shown as it is.

    TENANT_ID is 3 to 64 of a-z, 0-9 and '-'.

    Example: cycles-server tenants create acme --name 'Acme Ltd'
    """
    body = {"tenant_id": tenant_id, "name": name or tenant_id, **given(**members)}
    status, tenant = session.api.answer("POST", TENANTS, body=body)
    if status != 201:
        click.echo(f"tenant {tenant_id} was there, left as it is", err=True)
    session.show(tenant)


@tenants.command("list")
@click.option("--status", type=choice("ACTIVE", "SUSPENDED", "CLOSED"), help="Only these.")
@click.option("--parent", "parent_tenant_id", help="Only those below this tenant.")
@search_option
@sort_options("tenant_id", "name", "status", "created_at")
@limit_option
@speaks_to_admin
def list_tenants(session: Session, limit: int, **query: Any) -> None:
    """List tenants.

    Example: cycles-server tenants list --status suspended --sort-by name --sort-dir asc
    """
    session.show_list(TENANTS, "tenants", query, limit, _COLUMNS)


@tenants.command()
@click.argument("tenant_id")
@speaks_to_admin
def get(session: Session, tenant_id: str) -> None:
    """Show a tenant.

    TENANT_ID is the tenant's.

    Example: cycles-server tenants get acme
    """
    session.show(session.api.call("GET", f"{TENANTS}/{segment(tenant_id)}"))


@tenants.command()
@click.argument("tenant_id")
@click.option("--name", help="Another name for people.")
@_overage_option
@lifetime_options
@metadata_option
@speaks_to_admin
def update(session: Session, tenant_id: str, **members: Any) -> None:
    """Change a tenant's settings; what is not named stays.

    TENANT_ID is the tenant's.

    Example: cycles-server tenants update acme --default-reservation-ttl-ms 30000
    """
    _change(session, tenant_id, given(**members))


@tenants.command()
@click.argument("tenant_id")
@speaks_to_admin
def suspend(session: Session, tenant_id: str) -> None:
    """Let a tenant finish what it has reserved, and reserve nothing new.

    TENANT_ID is the tenant's.

    Example: cycles-server tenants suspend acme
    """
    _change(session, tenant_id, {"status": "SUSPENDED"})


@tenants.command()
@click.argument("tenant_id")
@speaks_to_admin
def reactivate(session: Session, tenant_id: str) -> None:
    """Take a suspension back.

    TENANT_ID is the tenant's.

    Example: cycles-server tenants reactivate acme
    """
    _change(session, tenant_id, {"status": "ACTIVE"})


@tenants.command()
@click.argument("tenant_id")
@click.option("--yes", is_flag=True, help="Do not ask whether that is meant.")
@speaks_to_admin
def close(session: Session, tenant_id: str, yes: bool) -> None:
    """Close a tenant for good: its budgets are closed, its keys revoked, its reservations released.

    TENANT_ID is the tenant's. Repeat it if it was broken off.

    Example: cycles-server tenants close acme --yes
    """
    if not yes:
        question = f"Close tenant {tenant_id} with all that it owns? That cannot be undone."
        click.confirm(question, abort=True, err=True)
    _change(session, tenant_id, {"status": "CLOSED"})


def _change(session: Session, tenant_id: str, body: dict[str, Any]) -> None:
    if not body:
        raise click.UsageError("nothing to change: name an option")
    session.show(session.api.call("PATCH", f"{TENANTS}/{segment(tenant_id)}", body=body))
