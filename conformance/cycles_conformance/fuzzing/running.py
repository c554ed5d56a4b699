"""Runs Schemathesis."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cycles_conformance.failures import KitFailed

LEFT_OUT = "positive_data_acceptance"
"""The one check of Schemathesis that does not apply: the contracts refuse in prose what their
schemas allow, such as a window that ends before it begins, balances without a filter, a scope below
another tenant, an amount in another unit than the budget's, or a bulk action without an amount."""


class FuzzingError(Exception):
    """The fuzzer could not be started; one line."""


@dataclass(frozen=True)
class Amount:
    """How much is tried.

    Attributes:
        examples: for each operation and phase.
        extra: arguments of Schemathesis's own.
    """

    examples: int
    seed: int
    extra: Sequence[str]


def run_schemathesis(
    spec: Path | None,
    bundled: str,
    url: str,
    headers: Mapping[str, str],
    hooks: Path,
    environment: Mapping[str, str],
    amount: Amount,
) -> int:
    """Run it, its output going to this process's own.

    Args:
        spec: the contract; None for the one of the name ``bundled``.
        hooks: what it must know of Cycles beyond the schemas; ``steering.py`` is what they share.
        environment: what the hooks read.

    Returns:
        The exit code of Schemathesis: 0 nothing found, 1 something found, else it could not run.

    Raises:
        FuzzingError, and KitFailed when a hook failed, which Schemathesis takes for a finding.
    """
    with ExitStack() as stack:
        if spec is None:
            contracts = importlib.resources.files("cycles_conformance.openapi")
            spec = stack.enter_context(importlib.resources.as_file(contracts / bundled))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cycles-fuzz-"))
        mistakes = Path(folder, "mistakes")
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", str(spec.resolve()),
            "--url", url,
            *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
            "--max-examples", str(amount.examples),
            "--seed", str(amount.seed),
            "--exclude-checks", LEFT_OUT,
            "--continue-on-failure",
            "--generation-database", "none",
            # Its warnings judge by status codes, and a 404 or 400 is often the right answer here.
            "--warnings", "off",
            *amount.extra,
        ]  # fmt: skip
        everything = {
            **os.environ,
            **environment,
            "SCHEMATHESIS_HOOKS": str(hooks),
            "CYCLES_FUZZ_SEED": str(amount.seed),
            "CYCLES_FUZZ_MISTAKES": str(mistakes),
        }
        # In a folder of its own: a schemathesis.toml or a database lying about must not count.
        try:
            run = subprocess.run(command, env=everything, cwd=folder, check=False)  # noqa: S603
        except OSError as error:
            raise FuzzingError(f"{command[0]} cannot be started: {error.strerror}") from error
        if mistakes.exists():
            first = mistakes.read_text(encoding="utf-8").splitlines()[0]
            raise KitFailed(f"fuzz before_call: {first}")
        return run.returncode
