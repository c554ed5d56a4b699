"""``cycles-server doctor``: is the store fit for money, do the books balance, and does governance
hang together?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cycles_server.cli.errors import fatal
from cycles_server.cli.stores import data_dir_option, on_store
from cycles_server.doctor.examine import Report, examine
from cycles_server.doctor.walking import Progress
from cycles_server.settings.admin import AdminSettings
from cycles_server.settings.loading import SettingError, load_settings
from cycles_server.settings.runtime import RuntimeSettings

_SHOWN = 100
_COLOURS = {"error": "red", "warning": "yellow", "advice": "cyan"}


@click.command()
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every finding in it.")
@click.pass_context
def doctor(ctx: click.Context, data_dir: Path | None, as_json: bool) -> None:
    """Check the store's settings, the whole ledger, and tenants, keys and policies; changes
    nothing.

    Works beside a running server. Exit status: 0 healthy, 1 findings (advice is none),
    2 it could not be checked.
    """
    with _shown_progress() as progress:
        report = on_store(
            data_dir, lambda store: examine(store, progress, audit_retentions=_retentions())
        )
    if as_json:
        click.echo(json.dumps({"healthy": report.healthy, **asdict(report)}))
    else:
        _print(report)
    ctx.exit(0 if report.healthy else 1)


def _retentions() -> tuple[int, ...]:
    """For how many days the servers keep audit entries of each kind."""
    try:
        runtime, admin = load_settings(RuntimeSettings), load_settings(AdminSettings)
    except SettingError as error:
        raise fatal(str(error)) from None
    return (
        runtime.audit_retention_days,
        admin.audit_retention_authenticated_days,
        admin.audit_retention_unauthenticated_days,
    )


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """Progress on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with RichProgress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=None)
            shown.update(tasks[stage], completed=done, description=f"{stage}: {done:,}")

        yield progress


def _print(report: Report) -> None:
    console = Console(highlight=False)
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, value in report.store.items():
        facts.add_row(name, escape(value))
    for name, number in report.counted.items():
        facts.add_row(name, f"{number:,}")
    console.print(facts)
    if report.findings:
        table = Table(box=None, pad_edge=False)
        for heading in ("level", "code", "key", "what"):
            table.add_column(heading, overflow="fold")
        for finding in report.findings[:_SHOWN]:
            colour = _COLOURS[finding.level]
            table.add_row(
                f"[{colour}]{finding.level}[/]",
                finding.code,
                escape(finding.key),
                escape(finding.message),
            )
        console.print()
        console.print(table)
        if len(report.findings) > _SHOWN:
            console.print(f"... and {len(report.findings) - _SHOWN:,} more; --json has them all")
    console.print()
    if report.healthy:
        console.print("[green]healthy[/]: the books balance")
    else:
        console.print("[red]not healthy[/]")
