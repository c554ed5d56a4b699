"""``cycles-server keys``."""

from __future__ import annotations

import sys
from typing import Any

import click

from cycles_server.cli.admin.client import API_KEYS, segment
from cycles_server.cli.admin.options import (
    choice,
    given,
    limit_option,
    metadata_option,
    search_option,
    sort_options,
)
from cycles_server.cli.admin.output import Columns, member
from cycles_server.cli.admin.session import Session, speaks_to_admin
from cycles_server.scopes import LEVELS

_COLUMNS: Columns = {
    "key": member("key_id"),
    "tenant": member("tenant_id"),
    "name": member("name"),
    "prefix": member("key_prefix"),
    "status": member("status"),
    "scopes": member("scope_filter"),
    "expires": member("expires_at"),
    "last used": member("last_used_at"),
}


def _read_segments(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Any:
    """Another form is met by no scope: the key would open nothing."""
    for entry in given:
        level, colon, value = entry.partition(":")
        if level not in LEVELS or not colon or not value or "/" in value:
            kinds = ", ".join(LEVELS)
            raise click.BadParameter(
                f"{entry!r} is no segment: LEVEL:VALUE or LEVEL:*, LEVEL one of {kinds}"
            )
    return given


_permission_option = click.option(
    "--permission",
    "permissions",
    multiple=True,
    help="What the key may do, e.g. budgets:read; docs/admin.md lists all. Repeatable.",
)
_scope_option = click.option(
    "--scope",
    "scope_filter",
    multiple=True,
    callback=_read_segments,
    help="A segment that the key is limited to, e.g. agent:bot or workspace:*. Repeatable.",
)


@click.group()
def keys() -> None:
    """Make, list, change, revoke and check the API keys of tenants."""


@keys.command()
@click.argument("tenant_id")
@click.option("--name", required=True, help="The key's name for people.")
@click.option("--description", help="What it is for.")
@_permission_option
@_scope_option
@click.option("--expires-at", help="When it ends, e.g. 2027-01-31T00:00:00Z; 90 days by default.")
@metadata_option
@speaks_to_admin
def create(session: Session, tenant_id: str, name: str, **members: Any) -> None:
    """Make an API key. Its secret is shown once and stored nowhere.

    TENANT_ID is whose key it is. Without --permission it may reserve, commit, release and extend,
    and both look at and change its tenant's budgets and policies.

    Example: cycles-server keys create acme --name production
    """
    made = session.api.call(
        "POST", API_KEYS, body={"tenant_id": tenant_id, "name": name, **given(**members)}
    )
    session.show(made)
    if not session.as_json:
        click.echo("keep key_secret now: it is not shown again", err=True)


@keys.command("list")
@click.option("--tenant", "tenant_id", help="Only this tenant's.")
@click.option("--status", type=choice("ACTIVE", "REVOKED", "EXPIRED"), help="Only these.")
@search_option
@sort_options("key_id", "name", "tenant_id", "status", "created_at", "expires_at")
@limit_option
@speaks_to_admin
def list_keys(session: Session, limit: int, **query: Any) -> None:
    """List API keys; no secret is among what is shown.

    Example: cycles-server keys list --tenant acme --status active
    """
    session.show_list(API_KEYS, "keys", query, limit, _COLUMNS)


@keys.command()
@click.argument("key_id")
@click.option("--name", help="Another name for people.")
@click.option("--description", help="What it is for.")
@_permission_option
@_scope_option
@click.option("--any-scope", is_flag=True, help="Let it be for all of its tenant's scopes.")
@metadata_option
@speaks_to_admin
def update(session: Session, key_id: str, any_scope: bool, **members: Any) -> None:
    """Change an API key; what is not named stays. Permissions and scopes are given anew as a whole.

    KEY_ID is the key's id, not its secret.

    Example: cycles-server keys update key_4f1f9f0e0b0d4c7c --permission balances:read
    """
    body = given(**members)
    if any_scope:
        if "scope_filter" in body:
            raise click.UsageError("--scope and --any-scope exclude each other")
        body["scope_filter"] = []
    if not body:
        raise click.UsageError("nothing to change: name an option")
    session.show(session.api.call("PATCH", f"{API_KEYS}/{segment(key_id)}", body=body))


@keys.command()
@click.argument("key_id")
@click.option("--reason", help="Why; kept with the key.")
@speaks_to_admin
def revoke(session: Session, key_id: str, reason: str | None) -> None:
    """Revoke an API key for good; its very next call is refused.

    KEY_ID is the key's id, not its secret.

    Example: cycles-server keys revoke key_4f1f9f0e0b0d4c7c --reason 'leaked in a log'
    """
    path = f"{API_KEYS}/{segment(key_id)}"
    session.show(session.api.call("DELETE", path, query={"reason": reason}))


@keys.command()
@speaks_to_admin
def validate(session: Session) -> None:
    """Say whether a secret is a key in force, and whose; read from standard input.

    On a terminal it is asked for, and not shown. Exit status 1 if it is not in force.

    Example: cycles-server keys validate < acme.key
    """
    if sys.stdin.isatty():
        secret = click.prompt("Secret", hide_input=True, err=True)
    else:
        secret = sys.stdin.read().strip()
    answer = session.api.call("POST", "/v1/auth/validate", body={"key_secret": secret})
    session.show(answer)
    if not answer["valid"]:
        click.get_current_context().exit(1)
