"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from cycles_conformance.client import Client, TargetLost
from cycles_conformance.contract import Contract, ContractError
from cycles_conformance.planes import ADMIN, RUNTIME, URL_OPTIONS
from cycles_conformance.provisioners import Provisioner, ProvisioningError
from cycles_conformance.provisioners.choose import provisioner_for
from cycles_conformance.target import Plane, Target

Decorated = Callable[..., Any]


def target_options(function: Decorated) -> Decorated:
    """Where the server is, and how tenants, keys and budgets come into being."""
    for option in reversed(_TARGET_OPTIONS):
        function = option(function)
    return function


admin_spec_option = click.option(
    "--admin-spec",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The OpenAPI document of the admin plane, which is not bundled: for cases of that plane.",
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


def contracts_of(spec: Path | None, admin_spec: Path | None) -> dict[str, Contract]:
    """The contracts by plane. Raises click.ClickException (exit code 2) with one line."""
    try:
        contracts = {RUNTIME: Contract.load(spec)}
        if admin_spec is not None:
            contracts[ADMIN] = Contract.load(admin_spec, ADMIN)
    except ContractError as error:
        raise could_not_run(str(error)) from error
    return contracts


def quoted(contracts: Mapping[str, Contract]) -> dict[str, Contract]:
    """What the clauses of the cases quote: the bundled edition where there is one."""
    return {**contracts, RUNTIME: Contract.load()}


def provisioner_of(options: dict[str, Any]) -> Provisioner:
    """The one provisioner that the options name. Raises click.ClickException (exit code 2)."""
    try:
        return provisioner_for(
            admin_url=options["admin_url"],
            admin_key=options["admin_key"],
            redis_url=options["redis_url"],
            command=options["provision_command"],
            fixtures=options["fixtures"],
            timeout=options["timeout"],
        )
    except (ProvisioningError, ValueError) as error:
        raise could_not_run(str(error)) from error


def target_of(options: dict[str, Any], contracts: Mapping[str, Contract]) -> Target:
    """Raises click.ClickException (exit code 2)."""
    if not options["url"]:
        raise could_not_run("--url: give the base URL of the server under test")
    admin_key = options["admin_key"]
    if admin_key and not (admin_key.isascii() and admin_key.isprintable()):
        raise could_not_run("--admin-key: no text that a header can carry")
    features = frozenset({"admin_key"} if admin_key else set())
    urls = {RUNTIME: options["url"], ADMIN: options["admin_url"]}
    planes = {
        plane: Plane(_client(URL_OPTIONS[plane], urls[plane], options["timeout"]), contract)
        for plane, contract in contracts.items()
        if urls[plane]
    }
    return Target(
        planes=planes, provisioner=provisioner_of(options), admin_key=admin_key, features=features
    )


def _client(option: str, url: str, timeout: float) -> Client:
    if not url.lower().startswith(("http://", "https://")):
        raise could_not_run(f"{option}: {url!r} is not an http:// or https:// address")
    try:
        return Client(url, timeout=timeout)
    except TargetLost as error:
        raise could_not_run(str(error)) from error


def could_not_run(message: str) -> click.ClickException:
    return CouldNotRun(message)
