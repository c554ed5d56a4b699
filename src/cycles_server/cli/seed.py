"""``cycles-server seed``: a tenant, its API key and its budgets, without an admin plane."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from cycles_server.cli.errors import fatal
from cycles_server.cli.keyfile import kept_key
from cycles_server.cli.money import parse_amount, show_amount
from cycles_server.cli.provision import (
    BudgetEntry,
    check_budget,
    provide_budget,
    provide_key,
    provide_tenant,
)
from cycles_server.cli.stores import data_dir_option, on_store
from cycles_server.governance.api_keys import has_api_key
from cycles_server.refusal import Refusal
from cycles_server.store.store import Store


def read_budgets(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, int, str]]:
    """Click callback: each ``NAME=AMOUNT`` as name, amount and unit."""
    budgets = []
    for value in values:
        place, equals, amount = value.partition("=")
        if not place or not equals:
            raise click.BadParameter(f"{value!r}: write it like tenant:acme=$1", ctx, param)
        try:
            budgets.append((place, *parse_amount(amount)))
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return budgets


@click.command()
@click.option("--tenant", required=True, help="Tenant id: 3 to 64 of a-z, 0-9 and '-'.")
@click.option("--name", help="The tenant's name for people.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    callback=read_budgets,
    metavar="SCOPE=AMOUNT",
    help="A budget, e.g. tenant:acme=$1 or tenant:acme/agent:bot=5000:TOKENS. Repeatable.",
)
@click.option(
    "--agent",
    "agents",
    multiple=True,
    callback=read_budgets,
    metavar="NAME=AMOUNT",
    help="The budget of the scope tenant:TENANT/agent:NAME. Repeatable.",
)
@click.option(
    "--set",
    "set_allocation",
    is_flag=True,
    help="Set the allocation of budgets that exist; what is reserved, spent and owed stays.",
)
@click.option("--new-key", is_flag=True, help="Make a key even if the tenant has one.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the key's secret in this file (mode 0600), and use the one that is there.",
)
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def seed(
    tenant: str,
    name: str | None,
    budgets: list[tuple[str, int, str]],
    agents: list[tuple[str, int, str]],
    set_allocation: bool,
    new_key: bool,
    key_file: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a tenant, an API key and budgets in the store.

    Safe to repeat: what exists is left alone, money above all, unless --set is given. Amounts are
    whole numbers with their unit, 100000000:USD_MICROCENTS, or dollars, $1 or 0.50usd.

    The secret of a new key is printed once and stored nowhere.
    """
    if new_key and key_file:
        raise click.UsageError("--new-key and --key-file exclude each other")
    wanted = [
        *budgets,
        *((f"tenant:{tenant}/agent:{agent}", amount, unit) for agent, amount, unit in agents),
    ]

    async def write(store: Store) -> tuple[bool, list[BudgetEntry], str | None]:
        created = await provide_tenant(store, tenant, name)
        entries = [
            await provide_budget(store, tenant, scope, unit, amount, replace=set_allocation)
            for scope, amount, unit in wanted
        ]
        secret: str | None = None
        if key_file is not None:
            secret, _ = await kept_key(store, tenant, key_file)
        elif new_key or not await has_api_key(store, tenant):
            secret = await provide_key(store, tenant)
        return created, entries, secret

    try:
        for scope, amount, unit in wanted:
            check_budget(tenant, scope, unit, amount)  # all of them before the first is written
        created, entries, secret = on_store(data_dir, write)
    except Refusal as error:
        raise fatal(str(error), 1) from None
    except OSError as error:
        raise fatal(f"{key_file}: {error.strerror}", 1) from None
    if as_json:
        document = {
            "tenant": {"tenant_id": tenant, "created": created},
            "api_key": secret,
            "budgets": [asdict(entry) for entry in entries],
        }
        click.echo(json.dumps(document))
    else:
        asked = [amount for _, amount, _ in wanted]
        _print(tenant, created, list(zip(entries, asked, strict=True)), secret)


def _print(
    tenant: str, created: bool, budgets: list[tuple[BudgetEntry, int]], secret: str | None
) -> None:
    # Nothing is cut or broken into lines here: keys and scopes are there to be copied.
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    console.print(f"tenant   [bold]{tenant}[/] {'created' if created else 'was there'}")
    if secret is None:
        console.print("key      the tenant has one; --new-key makes another")
    else:
        console.print(f"key      [bold green]{secret}[/]")
    for entry, asked in budgets:
        console.print(f"budget   [bold]{entry.scope}[/]")
        allocated, remaining = (
            show_amount(amount, entry.unit) for amount in (entry.allocated, entry.remaining)
        )
        note = _note(entry, asked)
        console.print(f"         {allocated} allocated, {remaining} remaining: {note}")


def _note(entry: BudgetEntry, asked: int) -> str:
    if entry.created:
        return "created"
    if entry.replaced is not None:
        return f"set, was {show_amount(entry.replaced, entry.unit)}"
    if entry.allocated != asked:
        return f"was there, left as it is; add --set to make it {show_amount(asked, entry.unit)}"
    return "was there, left as it is"
