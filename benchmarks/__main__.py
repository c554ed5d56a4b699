"""``python -m benchmarks``: measure this machine, print what it does and what was aimed at."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from benchmarks.admin_pages import measure_admin_pages
from benchmarks.against import Checkout, measure_against
from benchmarks.crowd import measure_crowd
from benchmarks.footprint import measure_footprint
from benchmarks.governing import measure_close, measure_funding
from benchmarks.ledger import measure_redis
from benchmarks.load import measure_load
from benchmarks.pages import measure_pages
from benchmarks.report import Section, describe_machine, markdown, show, write_json
from benchmarks.store import Store, opened_store
from benchmarks.strangers import measure_strangers
from benchmarks.sweep import measure_sweep
from benchmarks.wrk import require_wrk

Progress = Callable[[str], None]
Part = Callable[[Store, Progress], Section]


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all subcommands share."""
    for option in (
        click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown at the end."),
        click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write JSON."),
        click.option(
            "--rounds",
            default=3,
            show_default=True,
            type=click.IntRange(min=1),
            help="How often each figure is measured; the median counts.",
        ),
    ):
        command = option(command)
    return command


_seconds = click.option(
    "--seconds", default=5.0, show_default=True, help="Length of one run of load."
)
_requests = click.option(
    "--requests", default=1_000_000, show_default=True, help="Requests before memory is read."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the server on this machine.

    Every part starts a Redis and a server of its own, on a socket and on 127.0.0.1, and takes
    them away again. Nothing is asserted: the last column says what was met. Leave the machine
    alone meanwhile; the line under each table tells how much other work there was.
    """
    require_wrk()


@main.command()
@_options
@_seconds
@click.option(
    "--against",
    "other_root",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Measure reserves in turns with the server of this other checkout, and nothing else.",
)
@click.option(
    "--against-python",
    "other_python",
    metavar="PYTHON",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="That the other checkout is installed for.  [default: DIR/.venv/bin/python]",
)
def load(
    rounds: int,
    seconds: float,
    json_file: Path | None,
    as_markdown: bool,
    other_root: Path | None,
    other_python: Path | None,
) -> None:
    """Rate, latency and processor time of every operation, beside the floor."""
    part = _load(rounds, seconds)
    if other_root is not None:
        python = (other_python or other_root / ".venv/bin/python").absolute()
        if not python.exists():
            raise click.UsageError(f"there is no {python}: give --against-python")
        other = Checkout(other_root, python)
        part = functools.partial(measure_against, other=other, rounds=rounds, seconds=seconds)
    elif other_python is not None:
        raise click.UsageError("--against-python goes with --against")
    _measure([part], json_file, as_markdown)


@main.command()
@_options
@_seconds
def redis(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """Time and memory that a reserve costs in Redis."""
    _measure([_redis(rounds, seconds)], json_file, as_markdown)


@main.command()
@_options
@_seconds
def pages(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """Lists and balances with 1,000 and 100,000 reservations, and 10,000 other tenants."""
    _measure([_pages(rounds, seconds)], json_file, as_markdown)


@main.command()
@_options
@_seconds
def admin_pages(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """Lists of the admin plane with 1,000 and 100,000 tenants, budgets, keys and policies."""
    _measure([_admin_pages(rounds, seconds)], json_file, as_markdown)


@main.command()
@_options
@_seconds
def funding(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """A funding beside a reserve."""
    _measure([_funding(rounds, seconds)], json_file, as_markdown)


@main.command()
@_options
def close(rounds: int, json_file: Path | None, as_markdown: bool) -> None:
    """The close of a large tenant, and the reserves of another meanwhile."""
    _measure([_close(rounds)], json_file, as_markdown)


@main.command()
@_options
def sweep(rounds: int, json_file: Path | None, as_markdown: bool) -> None:
    """50,000 lapsed holds coming back, and reserves meanwhile."""
    _measure([_sweep(rounds)], json_file, as_markdown)


@main.command()
@_options
@_requests
def footprint(rounds: int, json_file: Path | None, as_markdown: bool, requests: int) -> None:
    """Time to the first answer, and memory before and after many requests."""
    _measure([_footprint(rounds, requests)], json_file, as_markdown)


@main.command()
@_options
@_seconds
def strangers(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """What others wait for while strangers do their worst; hostile clients of tests/hostile."""
    _measure([_strangers(rounds, seconds)], json_file, as_markdown)


@main.command()
@_options
@_seconds
def crowd(rounds: int, seconds: float, json_file: Path | None, as_markdown: bool) -> None:
    """Clients that connect all at once, and clients that connect anew each time."""
    _measure([_crowd(rounds, seconds)], json_file, as_markdown)


@main.command("all")
@_options
@_seconds
@_requests
def everything(
    rounds: int, seconds: float, json_file: Path | None, as_markdown: bool, requests: int
) -> None:
    """All of them, about half an hour."""
    parts = [_load(rounds, seconds), _redis(rounds, seconds), _pages(rounds, seconds)]
    parts += [
        _admin_pages(rounds, seconds),
        _funding(rounds, seconds),
        _close(rounds),
        _sweep(rounds),
        _strangers(rounds, seconds),
        _crowd(rounds, seconds),
    ]
    parts += [_footprint(rounds, requests)]
    _measure(parts, json_file, as_markdown)


def _load(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_load, rounds=rounds, seconds=seconds)


def _redis(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_redis, rounds=rounds, seconds=seconds)


def _pages(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_pages, rounds=rounds, seconds=seconds)


def _admin_pages(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_admin_pages, rounds=rounds, seconds=seconds)


def _funding(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_funding, rounds=rounds, seconds=seconds)


def _close(rounds: int) -> Part:
    return functools.partial(measure_close, rounds=rounds)


def _sweep(rounds: int) -> Part:
    return functools.partial(measure_sweep, rounds=rounds)


def _strangers(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_strangers, rounds=rounds, seconds=seconds)


def _crowd(rounds: int, seconds: float) -> Part:
    return functools.partial(measure_crowd, rounds=rounds, seconds=seconds)


def _footprint(rounds: int, requests: int) -> Part:
    return functools.partial(measure_footprint, rounds=rounds, requests=requests)


def _measure(parts: list[Part], json_file: Path | None, as_markdown: bool) -> None:
    sections = []
    machine = {}
    for part in parts:
        with opened_store() as store, Console(stderr=True).status("starting") as status:
            machine = describe_machine(store.version)
            sections.append(part(store, status.update))
        show(sections[-1])
    if json_file is not None:
        write_json(json_file, sections, machine)
    if as_markdown:
        click.echo(markdown(sections, machine))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
