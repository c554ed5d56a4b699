"""What all of the operator's commands share: where the admin plane is, and how they end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cycles_server.cli.admin.client import AdminApi, AdminError, Refused, read_url
from cycles_server.cli.admin.output import Columns, print_json, print_record, print_table
from cycles_server.cli.errors import fatal
from cycles_server.cli.secretfile import ADMIN_KEY_FILE, read_kept
from cycles_server.embedded.store import DEFAULT_DATA_DIR

DEFAULT_URL = "http://127.0.0.1:7979"
_F = TypeVar("_F", bound=Callable[..., Any])
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def url_option(*names: str) -> Callable[[_F], _F]:
    """The admin plane's URL, under these names."""
    return click.option(
        *names,
        envvar="CYCLES_ADMIN_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="The admin plane.",
    )


admin_key_option = click.option(
    "--admin-key",
    envvar="ADMIN_API_KEY",
    show_envvar=True,
    help="The operator's key; by default that of an `up` on this machine.",
)


@dataclass(frozen=True, slots=True)
class Session:
    """A command's way to the admin plane and to its user.

    Attributes:
        api: where it asks.
        as_json: whether answers are printed as they came, for scripts.
    """

    api: AdminApi
    as_json: bool

    def show(self, record: Mapping[str, Any]) -> None:
        """Print one object."""
        if self.as_json:
            print_json(record)
        else:
            print_record(record)

    def show_list(
        self, path: str, rows_in: str, query: Mapping[str, Any], limit: int, columns: Columns
    ) -> None:
        """Ask for a list and print it: ``{rows_in: [...], "has_more": ...}`` as JSON."""
        rows, more = self.api.rows(path, rows_in, query, limit)
        if self.as_json:
            print_json({rows_in: rows, "has_more": more})
            return
        if rows:
            print_table(rows, columns)
        else:
            click.echo("none")
        if more:
            click.echo(f"there are more than these {limit:,}: add --limit", err=True)


def find_admin_key(url: str, given: str | None, data_dir: Path | None) -> str:
    """The operator's key: the given one, else that of an ``up`` on this machine.

    Raises:
        click.ClickException: exit status 2; there is none.
        Unreachable: the URL is none.
    """
    if given:
        return given
    hint = "set ADMIN_API_KEY, or name the --data-dir of an `up`"
    # The key of an `up` here is nobody's business elsewhere, unless one says so.
    if data_dir is None and read_url(url).host not in _LOOPBACK:
        raise fatal(f"no admin key for {url}: {hint}")
    path = (data_dir or DEFAULT_DATA_DIR) / ADMIN_KEY_FILE
    try:
        kept = read_kept(path)
    except OSError as error:
        raise fatal(f"{path}: {error.strerror}") from None
    if not kept:
        raise fatal(f"no admin key: {hint} ({path} is not there)")
    return kept


def ending(error: AdminError) -> click.ClickException:
    """The one line and the exit status that a command ends with: 1 the admin plane refuses or
    fails; 2 it could not be asked."""
    line = "; ".join((str(error), *getattr(error, "__notes__", ())))
    return fatal(line, 1 if isinstance(error, Refused) else 2)


def speaks_to_admin(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options, and a :class:`Session` in their place."""

    @url_option("--url")
    @admin_key_option
    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Take the key of the `up` on this directory.  [default: {DEFAULT_DATA_DIR}]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
    @functools.wraps(command)
    def run(
        url: str,
        admin_key: str | None,
        data_dir: Path | None,
        as_json: bool,
        **arguments: Any,
    ) -> None:
        try:
            key = find_admin_key(url, admin_key, data_dir)
            with AdminApi(url, key) as api:
                command(Session(api, as_json), **arguments)
        except AdminError as error:
            raise ending(error) from None

    return run
