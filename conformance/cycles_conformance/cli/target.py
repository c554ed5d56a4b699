"""The target that the options describe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cycles_conformance.cli.options import could_not_run
from cycles_conformance.client import Client, TargetLost
from cycles_conformance.planes import ADMIN, RUNTIME, URL_OPTIONS
from cycles_conformance.provisioners import Provisioner, ProvisioningError
from cycles_conformance.provisioners.choose import provisioner_for
from cycles_conformance.target import OPERATOR, Plane, Target, reach

if TYPE_CHECKING:
    from cycles_conformance.contract import Contract


def contracts_of(spec: Path | None, admin_spec: Path | None) -> dict[str, Contract]:
    """The contracts by plane. Raises click.ClickException (exit code 2) with one line."""
    from cycles_conformance.contract import Contract, ContractError

    try:
        contracts = {RUNTIME: Contract.load(spec), ADMIN: Contract.load(admin_spec, ADMIN)}
    except ContractError as error:
        raise could_not_run(str(error)) from error
    return contracts


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


@contextmanager
def reached(options: Mapping[str, Any]) -> Iterator[dict[str, Client]]:
    """The clients of the planes that a URL was given for, once the runtime has answered; closed at
    the end. Needs nothing that takes long to load, so that a wrong URL is told at once. Raises
    click.ClickException (exit code 2)."""
    if not options["url"]:
        raise could_not_run("--url: give the base URL of the server under test")
    _check_admin_key(options["admin_key"])
    urls = {RUNTIME: options["url"], ADMIN: options["admin_url"]}
    with ExitStack() as stack:
        clients = {
            plane: stack.enter_context(
                closing(_client(URL_OPTIONS[plane], url, options["timeout"]))
            )
            for plane, url in urls.items()
            if url
        }
        try:
            reach(clients[RUNTIME])
        except TargetLost as error:
            raise could_not_run(str(error)) from error
        yield clients


@contextmanager
def reached_admin(options: Mapping[str, Any]) -> Iterator[Client]:
    """The client of the admin plane alone, once it has answered; closed at the end. Raises
    click.ClickException (exit code 2)."""
    if not options["admin_url"]:
        raise could_not_run("--admin-url: give the base URL of the admin plane")
    if not options["admin_key"]:
        raise could_not_run("--admin-key: give the operator's key")
    _check_admin_key(options["admin_key"])
    with closing(_client(URL_OPTIONS[ADMIN], options["admin_url"], options["timeout"])) as client:
        try:
            reach(client)
        except TargetLost as error:
            raise could_not_run(str(error)) from error
        yield client


def target_of(
    options: dict[str, Any], clients: Mapping[str, Client], contracts: Mapping[str, Contract]
) -> Target:
    """Raises click.ClickException (exit code 2)."""
    admin_key = options["admin_key"]
    return Target(
        planes={
            plane: Plane(clients[plane], contract)
            for plane, contract in contracts.items()
            if plane in clients
        },
        provisioner=provisioner_of(options),
        admin_key=admin_key,
        features=frozenset({OPERATOR} if admin_key else set()),
    )


def _check_admin_key(admin_key: str | None) -> None:
    if admin_key and not (admin_key.isascii() and admin_key.isprintable()):
        raise could_not_run("--admin-key: no text that a header can carry")


def _client(option: str, url: str, timeout: float) -> Client:
    if not url.lower().startswith(("http://", "https://")):
        raise could_not_run(f"{option}: {url!r} is not an http:// or https:// address")
    try:
        return Client(url, timeout=timeout)
    except TargetLost as error:
        raise could_not_run(str(error)) from error
