"""``cycles-conformance fuzz``: Schemathesis against a server."""

from __future__ import annotations

import secrets
import sys
from typing import Any

import click

from cycles_conformance.cli.options import target_options, verbose_option


@click.command(context_settings={"ignore_unknown_options": True})
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
def fuzz(max_examples: int, seed: int | None, arguments: tuple[str, ...], **options: Any) -> None:
    """Fuzz every operation of a server, and walk over the contract's links.

    Runs Schemathesis with the contract, an API key, unique idempotency keys and ids that exist.
    ARGUMENTS after -- go to `schemathesis run` as they are, such as --report junit.

    Exit codes: 0 nothing found, 1 something found, 2 could not run, or the kit itself failed, 130
    interrupted.
    """
    from cycles_conformance.cli.target import reached

    if seed is None:
        seed = secrets.randbelow(2**32)
    with reached(options) as clients:
        from cycles_conformance.cli.fuzzed import fuzzed

        code = fuzzed(options, clients, examples=max_examples, seed=seed, extra=arguments)
    click.echo(f"seed {seed}")
    sys.exit(code)
