"""``cycles-server policies``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from cycles_server.cli.admin.client import POLICIES, segment
from cycles_server.cli.admin.options import choice, given, limit_option, overage_option
from cycles_server.cli.admin.output import Columns, member
from cycles_server.cli.admin.session import Session, speaks_to_admin
from cycles_server.scopes import tenant_in

_F = TypeVar("_F", bound=Callable[..., Any])

_CAPS = {
    "max_tokens": "Tokens of one action at most.",
    "max_steps_remaining": "Steps that an agent may still take.",
    "cooldown_ms": "Pause before the next action, in milliseconds.",
}
_LEASES = {
    "default_ttl_ms": "The lease of a reservation that asks for none, in milliseconds.",
    "max_ttl_ms": "The longest lease, in milliseconds.",
    "max_extensions": "How often one reservation may be extended.",
}
_RATES = {
    "max_reservations_per_minute": "Reservations a minute at most.",
    "max_commits_per_minute": "Commits a minute at most.",
}
_TOOLS = {
    "tool_allowlist": ("--allow-tool", "The only tools to be used. Repeatable."),
    "tool_denylist": ("--deny-tool", "Tools not to be used. Repeatable."),
}
_GROUPS = {
    "caps": (*_CAPS, *_TOOLS),
    "reservation_ttl_override": tuple(_LEASES),
    "rate_limits": tuple(_RATES),
}
"""Members of a policy that are objects, and what is in them."""


def _rules(policy: Mapping[str, Any]) -> dict[str, Any] | None:
    """All that a policy asks for."""
    rules: dict[str, Any] = {}
    for group in _GROUPS:
        rules.update(policy.get(group) or {})
    if policy.get("commit_overage_policy"):
        rules["commit_overage_policy"] = policy["commit_overage_policy"]
    return rules or None


_COLUMNS: Columns = {
    "policy": member("policy_id"),
    "pattern": member("scope_pattern"),
    "name": member("name"),
    "priority": member("priority"),
    "status": member("status"),
    "rules": _rules,
}


def _rule_options(command: _F) -> _F:
    """What a policy asks for, and from when to when it does."""
    for name, what in {"effective_until": "Until", "effective_from": "From"}.items():
        command = click.option(_dashed(name), help=f"{what} when it holds: a time in RFC 3339.")(
            command
        )
    for name, what in {**_RATES, **_LEASES, **_CAPS}.items():
        command = click.option(_dashed(name), type=click.IntRange(min=0), help=what)(command)
    for name, (option, what) in _TOOLS.items():
        command = click.option(option, name, multiple=True, help=what)(command)
    command = overage_option(command)
    command = click.option("--description", help="What it is for.")(command)
    return click.option(
        "--priority", type=click.IntRange(min=0), help="Of those that match, the highest holds."
    )(command)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@click.group()
def policies() -> None:
    """Make, list and change policies: caps and limits by scope."""


@policies.command()
@click.argument("scope_pattern")
@click.option("--name", required=True, help="The policy's name for people.")
@click.option(
    "--tenant", "tenant_id", help="Whose it is; by default the tenant that the pattern begins with."
)
@_rule_options
@speaks_to_admin
def create(
    session: Session, scope_pattern: str, name: str, tenant_id: str | None, **members: Any
) -> None:
    """Make a policy.

    SCOPE_PATTERN is a scope, or one with a '*' in place of a part.

    Example: cycles-server policies create 'tenant:acme/agent:*' --name calm --max-tokens 2000
    """
    owner = tenant_id or tenant_in(scope_pattern)
    if not owner:
        raise click.UsageError(f"{scope_pattern!r} does not begin with its tenant: add --tenant")
    body = {
        "tenant_id": owner,
        "name": name,
        "scope_pattern": scope_pattern,
        **_grouped(given(**members)),
    }
    session.show(session.api.call("POST", POLICIES, body=body))


@policies.command("list")
@click.option("--tenant", "tenant_id", required=True, help="Whose policies.")
@click.option("--scope-pattern", help="Only those with this pattern.")
@click.option("--status", type=choice("ACTIVE", "DISABLED"), help="Only these.")
@limit_option
@speaks_to_admin
def list_policies(session: Session, limit: int, **query: Any) -> None:
    """List a tenant's policies.

    Example: cycles-server policies list --tenant acme
    """
    session.show_list(POLICIES, "policies", query, limit, _COLUMNS)


@policies.command()
@click.argument("policy_id")
@click.option("--name", help="Another name for people.")
@click.option("--status", type=choice("ACTIVE", "DISABLED"), help="Whether it holds at all.")
@_rule_options
@speaks_to_admin
def update(session: Session, policy_id: str, **members: Any) -> None:
    """Change a policy; what is not named stays, but caps, leases and rates are each given anew.

    POLICY_ID is the policy's.

    Example: cycles-server policies update pol_4f1f9f0e0b0d4c7c --status disabled
    """
    body = _grouped(given(**members))
    if not body:
        raise click.UsageError("nothing to change: name an option")
    session.show(session.api.call("PATCH", f"{POLICIES}/{segment(policy_id)}", body=body))


def _grouped(members: dict[str, Any]) -> dict[str, Any]:
    """The members of a request: those that belong into an object of it are put there."""
    for group, names in _GROUPS.items():
        inside = {name: members.pop(name) for name in names if name in members}
        if inside:
            members[group] = inside
    return members
