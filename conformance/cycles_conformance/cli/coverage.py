"""``cycles-conformance coverage``: which sentences of the contract the cases check."""

from __future__ import annotations

from pathlib import Path

import click

from cycles_conformance.cli.options import admin_spec_option, verbose_option


@click.command()
@click.option(
    "--spec",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The OpenAPI document to measure against.  [default: the bundled contract]",
)
@admin_spec_option
@click.option(
    "--cases",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder of case files.  [default: the bundled cases]",
)
@click.option(
    "--unclaimed",
    is_flag=True,
    help="Print the normative sentences, too, that no case checks.",
)
@verbose_option
def coverage(
    spec: Path | None, admin_spec: Path | None, cases: Path | None, unclaimed: bool
) -> None:
    """Show which sentences of the contract the cases check, and what they do not reach.

    Exit codes: 0, or 2 when the case files have a fault, such as words that the contract does not
    have.
    """
    from cycles_conformance.cli.covered import show_coverage

    show_coverage(spec, admin_spec, cases, unclaimed=unclaimed)
