"""``cycles-conformance run``: the cases against a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cycles_conformance.cli.options import could_not_run, target_options, verbose_option
from cycles_conformance.results import LEVELS, Level


@click.command()
@target_options
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    metavar="MUST|SHOULD|MAY",
    default="SHOULD",
    show_default=True,
    help="Run the cases up to this level, and be held to them.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Run only these areas or cases (shell patterns; may be repeated).",
)
@click.option("--list", "list_only", is_flag=True, help="List the cases that would run, and stop.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report: .xml (JUnit), .json or .html (may be repeated).",
)
@click.option(
    "--cases",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder of case files.  [default: the bundled cases]",
)
@click.option("--fail-fast", is_flag=True, help="Begin no further case once one has failed.")
@click.option("--seed", type=int, help="Seed of the property checks.  [default: a new one]")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=12,
    show_default=True,
    help="How many cases run at the same time.",
)
@click.option(
    "--rate-limit/--no-rate-limit",
    default=True,
    show_default=True,
    help="At the end, run the cases that use up the rate limit of the public operations.",
)
@verbose_option
@click.option("--throttle/--no-throttle", default=True, hidden=True)  # its older name
def run(
    level: Level,
    only: Sequence[str],
    list_only: bool,
    reports: Sequence[Path],
    cases: Path | None,
    fail_fast: bool,
    seed: int | None,
    jobs: int,
    rate_limit: bool,
    throttle: bool,
    **options: Any,
) -> None:
    """Run the conformance cases against a server.

    Exit codes: 0 conformant at the asked level, 1 not conformant, 2 could not run to the end, or
    the kit itself failed in some case (the other cases are run all the same), 130 interrupted.
    Whatever ends a run, what came until then is shown and written to the reports.
    """
    if list_only:
        from cycles_conformance.cli.listing import show

        show(cases, level, only)
        return
    _check(reports)
    from cycles_conformance.cli.target import reached

    with reached(options) as clients:
        # Takes longest to load, and is no use without a server.
        from cycles_conformance.cli.running import run_cases

        run_cases(
            options,
            clients,
            folder=cases,
            level=level,
            only=only,
            reports=reports,
            seed=seed,
            jobs=jobs,
            fail_fast=fail_fast,
            rate_limit=rate_limit and throttle,
        )


def _check(reports: Sequence[Path]) -> None:
    """Raises click.ClickException (exit code 2) for one that could not be written."""
    from cycles_conformance import report

    for path in reports:
        try:
            report.check(path)
        except ValueError as error:
            raise could_not_run(f"--report: {error}") from error
        if not path.parent.is_dir():
            raise could_not_run(f"--report: {path}: there is no folder {path.parent}")
