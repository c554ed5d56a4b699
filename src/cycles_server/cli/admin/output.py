"""What the operator's commands print: records and tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cycles_server.cli.money import show_amount

Columns = Mapping[str, Callable[[Any], Any]]
"""The heading of each column, and what stands in it for a row."""

_STYLES = {
    **dict.fromkeys(("ACTIVE", "yes"), "green"),
    **dict.fromkeys(("SUSPENDED", "FROZEN", "DISABLED", "EXPIRED"), "yellow"),
    **dict.fromkeys(("CLOSED", "REVOKED", "no"), "red"),
}
_WIDE = 100_000


def plain(value: Any) -> str:
    """A text on one line that cannot steer a terminal; others may have written it."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: Any) -> str:
    """A member of an answer for people: amounts in their unit, lists and objects on one line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case {"unit": str(unit), "amount": int(amount), **rest} if not rest:
            return show_amount(amount, unit)
        case list() if all(isinstance(entry, str) for entry in value):
            return ", ".join(map(plain, value))
        case dict() | list():
            return plain(json.dumps(value, ensure_ascii=False))
        case _:
            return plain(value)


def print_json(document: Any) -> None:
    """For scripts."""
    click.echo(json.dumps(document))


def print_record(record: Mapping[str, Any]) -> None:
    """Each member on a line of its own."""
    width = max(map(len, record), default=0)
    console = _console()
    for name, value in record.items():
        text = shown(value)
        # Nothing is cut or broken into lines here: secrets and scopes are there to be copied.
        console.print(Text(f"{name:{width}}  ").append(text, _style(text)), soft_wrap=True)


def print_table(rows: Sequence[Any], columns: Columns) -> None:
    """A line for each row, whole ones where no terminal sets the width; without columns that no
    row has anything for."""
    texts = {heading: [shown(cell(row)) for row in rows] for heading, cell in columns.items()}
    used = {heading: cells for heading, cells in texts.items() if any(cells)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in used:
        table.add_column(heading, overflow="fold")
    for cells in zip(*used.values(), strict=True):
        table.add_row(*(Text(text, _style(text)) for text in cells))
    _console().print(table)


def member(name: str) -> Callable[[Any], Any]:
    """A column that shows a member of its row, where there is one."""
    return lambda row: row.get(name)


def _style(text: str) -> str:
    return _STYLES.get(text, "")


def _console() -> Console:
    console = Console(highlight=False, emoji=False, markup=False)
    return (
        console
        if console.is_terminal
        else Console(highlight=False, emoji=False, markup=False, width=_WIDE)
    )
