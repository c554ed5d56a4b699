"""What ``cycles-conformance run`` does once the server has answered."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from cycles_conformance import probe, report, runner
from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.cli.choosing import chosen
from cycles_conformance.cli.loaded import cases_of
from cycles_conformance.cli.options import could_not_run, is_verbose
from cycles_conformance.cli.replay import replay_line
from cycles_conformance.cli.target import contracts_of, target_of
from cycles_conformance.client import Client, TargetLost
from cycles_conformance.properties import Property
from cycles_conformance.provisioners import ProvisioningError
from cycles_conformance.report import console as shown
from cycles_conformance.results import LEVELS, CaseResult, Level, RunResult
from cycles_conformance.target import RATE_LIMIT, Target


def run_cases(
    options: dict[str, Any],
    clients: Mapping[str, Client],
    *,
    folder: Path | None,
    level: Level,
    only: Sequence[str],
    reports: Sequence[Path],
    seed: int | None,
    jobs: int,
    fail_fast: bool,
    rate_limit: bool,
) -> NoReturn:
    """Run them, tell what came of it, and exit. ``clients`` by plane; ``options`` are those of the
    target. Raises click.ClickException (exit code 2)."""
    contracts = contracts_of(options["spec"], options["admin_spec"])
    checks = [*chosen(cases_of(folder), level, only), AS_DECLARED]
    target = target_of(options, clients, contracts)
    if rate_limit:
        target.features |= {RATE_LIMIT}
    if seed is None:
        seed = secrets.randbelow(2**32)
    console = Console(highlight=False)
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
