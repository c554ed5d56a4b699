"""``cycles-conformance run``: the cases against a server."""

from __future__ import annotations

import fnmatch
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from cycles_conformance import probe, report, runner
from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.cli.options import (
    contracts_of,
    could_not_run,
    is_verbose,
    quoted,
    target_of,
    target_options,
    verbose_option,
)
from cycles_conformance.cli.replay import replay_line
from cycles_conformance.client import TargetLost
from cycles_conformance.contract import Contract
from cycles_conformance.properties import PROPERTIES, Property
from cycles_conformance.provisioners import ProvisioningError
from cycles_conformance.report import console as shown
from cycles_conformance.results import LEVELS, CaseResult, Level, RunResult
from cycles_conformance.target import LAST_FEATURE, Target, reach


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
    console = Console(highlight=False)
    contracts = contracts_of(options["spec"], options["admin_spec"])
    checks = chosen(cases, quoted(contracts), level, only)
    if list_only:
        shown.listing(checks, console)
        return
    for path in reports:
        try:
            report.check(path)
        except ValueError as error:
            raise could_not_run(f"--report: {error}") from error
        if not path.parent.is_dir():
            raise could_not_run(f"--report: {path}: there is no folder {path.parent}")
    target = target_of(options, contracts)
    if rate_limit and throttle:
        target.features |= {LAST_FEATURE}
    if seed is None:
        seed = secrets.randbelow(2**32)
    outcome = carried_out(
        target,
        checks,
        console,
        level=level,
        seed=seed,
        jobs=jobs,
        fail_fast=fail_fast,
        options=options,
    )
    shown.summary(outcome, console, verbose=is_verbose())
    for path in reports:
        try:
            report.write(outcome, path)
        except OSError as error:
            raise could_not_run(f"--report: {path}: {error.strerror}") from error
        console.print(f"report written to {path}", soft_wrap=True, markup=False)
    if outcome.incomplete == runner.INTERRUPTED:
        _leave(130)
    if outcome.incomplete:
        raise could_not_run(outcome.incomplete)
    sys.exit(exit_code(outcome))


def _leave(code: int) -> NoReturn:
    """At once: a thread that waits for an answer would hold the process up."""
    sys.stdout.flush()
    os._exit(code)


def chosen(
    folder: Path | None, contracts: Mapping[str, Contract], level: Level, only: Sequence[str]
) -> list[Any]:
    """The cases and property checks that the options name, in order. Raises
    click.ClickException (exit code 2)."""
    try:
        collection = load(folder, contracts)
    except CaseFileError as error:
        raise could_not_run(str(error)) from error
    checks: list[Any] = [*collection.cases, *(PROPERTIES if folder is None else ())]
    for pattern in only:
        if not any(_named(check, pattern) for check in checks):
            raise could_not_run(f"--only: no area and no case is called {pattern!r} (see --list)")
    wanted = LEVELS[: LEVELS.index(level) + 1]
    named = [
        check for check in checks if not only or any(_named(check, pattern) for pattern in only)
    ]
    found = [check for check in named if check.level in wanted]
    if not found:
        levels = " and ".join(sorted({check.level for check in named}))
        raise could_not_run(f"--level {level} leaves no case: all that are chosen are {levels}")
    return found


def carried_out(
    target: Target,
    checks: list[Any],
    console: Console,
    *,
    level: Level,
    seed: int,
    jobs: int,
    fail_fast: bool,
    options: Mapping[str, Any],
) -> RunResult:
    """The run itself. ``options`` are those of the target. Raises click.ClickException (exit
    code 2)."""

    def execute(target: Target, check: Any, result: CaseResult) -> None:
        if isinstance(check, Property):
            result.seed = seed
            result.replay = replay_line(options, check.id, seed)
            check.execute(target, result, seed)
        else:
            runner.execute_case(target, check, result)

    try:
        reach(target.runtime.client)
        probe.look(target)
        with shown.Live(len(checks), console) as live:
            return runner.run(
                target,
                checks,
                execute,
                live,
                level=level,
                seed=seed,
                jobs=jobs,
                fail_fast=fail_fast,
            )
    except (TargetLost, ProvisioningError) as error:
        raise could_not_run(str(error)) from error
    finally:
        target.close()


def exit_code(outcome: RunResult) -> int:
    if outcome.kit_failures:
        return 2
    if not outcome.conformant:
        return 1 if any(outcome.problems_at(level) for level in LEVELS) else 2
    return 2 if any(result.setup_failed for result in outcome.results) else 0


def _named(check: Any, pattern: str) -> bool:
    return fnmatch.fnmatchcase(check.area, pattern) or fnmatch.fnmatchcase(check.id, pattern)
