"""What ``cycles-conformance fuzz`` does once the server has answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cycles_conformance.cli.options import could_not_run
from cycles_conformance.cli.target import contracts_of, target_of
from cycles_conformance.client import Client, TargetLost
from cycles_conformance.fuzzing.command import FuzzingError, fuzz
from cycles_conformance.provisioners import ProvisioningError


def fuzzed(
    options: dict[str, Any],
    clients: Mapping[str, Client],
    *,
    examples: int,
    seed: int,
    extra: Sequence[str],
) -> int:
    """The exit code. Raises click.ClickException (exit code 2)."""
    contracts = contracts_of(options["spec"], options["admin_spec"])
    target = target_of(options, clients, contracts)
    try:
        code = fuzz(target, options["spec"], examples=examples, seed=seed, extra=extra)
    except (TargetLost, ProvisioningError, FuzzingError) as error:
        raise could_not_run(str(error)) from error
    finally:
        target.close()
    return code if code in (0, 1) else 2
