"""Options that several commands share. Nothing here takes long to load: ``--help`` is no work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorated = Callable[..., Any]


def target_options(function: Decorated) -> Decorated:
    """Where the server is, and how tenants, keys and budgets come into being."""
    for option in reversed(_TARGET_OPTIONS):
        function = option(function)
    return function


admin_spec_option = click.option(
    "--admin-spec",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same for the admin plane.  [default: the bundled contract]",
)

_TARGET_OPTIONS = (
    click.option(
        "--url",
        default="",
        envvar="CYCLES_URL",
        help="Base URL of the server under test, before /v1.  [env: CYCLES_URL]",
    ),
    click.option(
        "--spec",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The OpenAPI document to hold answers against.  [default: the bundled contract]",
    ),
    admin_spec_option,
    click.option(
        "--admin-key",
        envvar="CYCLES_ADMIN_KEY",
        help="X-Admin-API-Key: for --admin-url, and for cases in which an operator acts for a "
        "tenant.  [env: CYCLES_ADMIN_KEY]",
    ),
    click.option(
        "--admin-url",
        envvar="CYCLES_ADMIN_URL",
        help="Base URL of the governance admin API, before /v1: for cases of the admin plane, and "
        "to provision through unless another way is given.  [env: CYCLES_ADMIN_URL]",
    ),
    click.option(
        "--redis-url",
        envvar="CYCLES_REDIS_URL",
        help="Provision straight into this Redis, in the stored shapes of the reference "
        "deployment.  [env: CYCLES_REDIS_URL]",
    ),
    click.option(
        "--provision-command",
        help="Provision through a command of your own, which reads JSON on standard input.",
    ),
    click.option(
        "--fixtures",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Use the existing tenants, keys and budgets that this file lists.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.1, max=3600),
        default=10.0,
        show_default=True,
        help="Seconds to wait for an answer.",
    ),
)


def _note_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.find_root().meta[_VERBOSE] = value


_VERBOSE = "cycles_conformance.verbose"
verbose_option = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_note_verbose,
    help="Show the tracebacks of the kit's own mistakes.",
)


def is_verbose() -> bool:
    """Whether --verbose was given to the command that runs."""
    return bool(click.get_current_context().find_root().meta.get(_VERBOSE))


class CouldNotRun(click.ClickException):
    """The run did not take place, or came to no verdict."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ended by Ctrl-C."""

    exit_code = 130


def could_not_run(message: str) -> click.ClickException:
    return CouldNotRun(message)
