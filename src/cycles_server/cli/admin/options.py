"""Options that several of the operator's commands have, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cycles_server.cli.money import DOLLAR_UNIT, parse_amount
from cycles_server.scopes import UNITS

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_ROWS = 100
OVERAGE = ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT")


def given(**members: Any) -> dict[str, Any]:
    """The members that were given; those that are None, or a repeatable option's (), were not."""
    return {name: value for name, value in members.items() if value is not None and value != ()}


def read_amount(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    """Click callback: ``$1`` or ``5000:TOKENS`` as the contract's Amount; None if not given."""
    if value is None:
        return None
    try:
        amount, unit = parse_amount(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return {"unit": unit, "amount": amount}


def choice(*values: str) -> click.Choice[str]:
    """One of the contract's names, in any case."""
    return click.Choice(values, case_sensitive=False)


def read_pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str] | None:
    """Click callback: each ``NAME=VALUE``, together as an object; None if there are none."""
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r}: write it like team=research", ctx, param)
        pairs[name] = rest
    return pairs or None


metadata_option = click.option(
    "--metadata",
    multiple=True,
    callback=read_pairs,
    metavar="NAME=VALUE",
    help="Your own data. Repeatable.",
)
unit_option = click.option(
    "--unit",
    type=choice(*UNITS),
    default=DOLLAR_UNIT,
    show_default=True,
    help="The budget's unit.",
)
overage_option = click.option(
    "--overage-policy",
    "commit_overage_policy",
    type=choice(*OVERAGE),
    help="What becomes of a commit above its reservation.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=DEFAULT_ROWS,
    show_default=True,
    help="Rows at most.",
)
search_option = click.option("--search", help="A part of what the rows say, in any case.")


def sort_options(*keys: str) -> Callable[[_F], _F]:
    """``--sort-by`` one of the keys, and ``--sort-dir``."""

    def add(command: _F) -> _F:
        command = click.option(
            "--sort-dir", type=choice("asc", "desc"), help="Its direction; desc by default."
        )(command)
        return click.option("--sort-by", type=choice(*keys), help="The order of the rows.")(command)

    return add


def lifetime_options(command: _F) -> _F:
    """How long reservations live, by the names that tenants have for it."""
    for option, what in (
        ("--max-reservation-extensions", "How often one reservation may be extended."),
        ("--max-reservation-ttl-ms", "The longest lease, in milliseconds."),
        ("--default-reservation-ttl-ms", "The lease of a reservation that asks for none."),
    ):
        command = click.option(option, type=click.IntRange(min=0), help=what)(command)
    return command
