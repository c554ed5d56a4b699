"""``cycles-conformance fuzz``: Schemathesis against a server."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

import click

from cycles_conformance.cli.options import target_options, verbose_option
from cycles_conformance.planes import ADMIN, RUNTIME

if TYPE_CHECKING:
    from cycles_conformance.fuzzing.running import Amount


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--plane",
    type=click.Choice((RUNTIME, ADMIN)),
    default=RUNTIME,
    show_default=True,
    help="Which plane: the one at --url, or the one at --admin-url, which needs --admin-key and "
    "nothing else.",
)
@target_options
@click.option(
    "--max-examples",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Examples for each operation and phase.",
)
@click.option("--seed", type=int, help="Seed of the generated requests.  [default: a new one]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@verbose_option
def fuzz(
    plane: str, max_examples: int, seed: int | None, arguments: tuple[str, ...], **options: Any
) -> None:
    """Fuzz every operation of a server, and walk over the contract's links.

    Runs Schemathesis with the contract, a key, unique idempotency keys and ids that exist.
    ARGUMENTS after -- go to `schemathesis run` as they are, such as --report junit. What it makes
    on the admin plane stays there: tenants, keys, budgets.

    Exit codes: 0 nothing found, 1 something found, 2 could not run, or the kit itself failed, 130
    interrupted.
    """
    if seed is None:
        seed = secrets.randbelow(2**32)
    run = _runtime if plane == RUNTIME else _admin
    code = run(options, max_examples, seed, arguments)
    click.echo(f"seed {seed}")
    sys.exit(code)


def _runtime(options: dict[str, Any], *amount: Any) -> int:
    from cycles_conformance.cli.target import reached

    with reached(options) as clients:
        from cycles_conformance.cli.fuzzed import fuzzed

        return fuzzed(options, clients, _amount(*amount))


def _admin(options: dict[str, Any], *amount: Any) -> int:
    from cycles_conformance.cli.target import reached_admin

    with reached_admin(options) as client:
        from cycles_conformance.cli.fuzzed import fuzzed_admin

        return fuzzed_admin(options, client, _amount(*amount))


def _amount(examples: int, seed: int, extra: tuple[str, ...]) -> Amount:
    from cycles_conformance.fuzzing.running import Amount

    return Amount(examples, seed, extra)
