"""What ``cycles-conformance fuzz`` does once the server has answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycles_conformance.cli.options import could_not_run
from cycles_conformance.cli.target import contracts_of, target_of
from cycles_conformance.client import Client, TargetLost
from cycles_conformance.contract import Contract, ContractError
from cycles_conformance.fuzzing.admin import fuzz_admin
from cycles_conformance.fuzzing.running import Amount, FuzzingError
from cycles_conformance.fuzzing.runtime import fuzz_runtime
from cycles_conformance.planes import ADMIN
from cycles_conformance.provisioners import ProvisioningError


def fuzzed(options: dict[str, Any], clients: Mapping[str, Client], amount: Amount) -> int:
    """The exit code. Raises click.ClickException (exit code 2)."""
    try:
        code = _runtime(options, clients, amount)
    except (TargetLost, ProvisioningError, FuzzingError) as error:
        raise could_not_run(str(error)) from error
    return code if code in (0, 1) else 2


def fuzzed_admin(options: dict[str, Any], client: Client, amount: Amount) -> int:
    """The same of the admin plane."""
    spec = options["admin_spec"]
    try:
        if spec is not None:
            Contract.load(spec, ADMIN)
        code = fuzz_admin(client, options["admin_key"], spec, amount)
    except (ContractError, TargetLost, ProvisioningError, FuzzingError) as error:
        raise could_not_run(str(error)) from error
    return code if code in (0, 1) else 2


def _runtime(options: dict[str, Any], clients: Mapping[str, Client], amount: Amount) -> int:
    contracts = contracts_of(options["spec"], options["admin_spec"])
    target = target_of(options, clients, contracts)
    try:
        return fuzz_runtime(target, options["spec"], amount)
    finally:
        target.close()
