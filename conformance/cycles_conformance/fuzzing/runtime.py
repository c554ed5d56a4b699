"""Puts a Schemathesis run together."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from cycles_conformance.casefiles.given import SHARED, UNITS
from cycles_conformance.casefiles.templates import operation_of, templates
from cycles_conformance.client import Answer, TargetLost
from cycles_conformance.failures import KitFailed
from cycles_conformance.provisioners import Prepared
from cycles_conformance.target import API_KEY, Target
from cycles_conformance.values import Values

HOOKS = Path(__file__).with_name("hooks.py")
HELD = 50
"""Reservations made beforehand, for requests that need an existing id."""
LEFT_OUT = "positive_data_acceptance"
"""The one check of Schemathesis that does not apply: the contract refuses in prose what its schemas
allow, such as a window that ends before it begins or balances without a filter."""


class FuzzingError(Exception):
    """The fuzzer could not be started; one line."""


def fuzz(
    target: Target, spec: Path | None, *, examples: int, seed: int, extra: Sequence[str]
) -> int:
    """Run it, its output going to this process's own. Returns the exit code of Schemathesis:
    0 nothing found, 1 something found, else it could not run. ``extra`` are arguments of its own.

    Raises ProvisioningError, TargetLost, FuzzingError, and KitFailed when a hook failed, which
    Schemathesis takes for a finding.
    """
    if reason := target.provisioner.lacks(SHARED):
        raise FuzzingError(f"fuzzing needs a tenant with budgets: {reason}")
    prepared = target.prepare(SHARED)
    reservations = list(_held(target, prepared))
    if not reservations:
        raise FuzzingError("no reservation could be made: run the cases first")
    with ExitStack() as stack:
        if spec is None:
            bundled = importlib.resources.files("cycles_conformance.openapi")
            spec = stack.enter_context(
                importlib.resources.as_file(bundled / "cycles-protocol-v0.yaml")
            )
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cycles-fuzz-"))
        mistakes = Path(folder, "mistakes")
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": str(HOOKS),
            "CYCLES_FUZZ_TENANT": prepared.tenants["tenant"],
            "CYCLES_FUZZ_RESERVATIONS": " ".join(reservations),
            "CYCLES_FUZZ_SEED": str(seed),
            "CYCLES_FUZZ_MISTAKES": str(mistakes),
        }
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", str(spec.resolve()),
            "--url", target.runtime.client.url,
            "--header", f"{API_KEY}: {prepared.secrets['tenant']}",
            "--max-examples", str(examples),
            "--seed", str(seed),
            "--exclude-checks", LEFT_OUT,
            "--continue-on-failure",
            "--generation-database", "none",
            # Its warnings judge by status codes, and a 404 or 400 is often the right answer here.
            "--warnings", "off",
            *extra,
        ]  # fmt: skip
        # In a folder of its own: a schemathesis.toml or a database lying about must not count.
        try:
            run = subprocess.run(command, env=environment, cwd=folder, check=False)  # noqa: S603
        except OSError as error:
            raise FuzzingError(f"{command[0]} cannot be started: {error.strerror}") from error
        if mistakes.exists():
            first = mistakes.read_text(encoding="utf-8").splitlines()[0]
            raise KitFailed(f"fuzz before_call: {first}")
        return run.returncode


def _held(target: Target, prepared: Prepared) -> Iterator[str]:
    template = templates()["reserve"]
    operation = target.operation(operation_of("reserve"))
    for number in range(HELD):
        known = {"self": prepared.tenants["tenant"], "unit": UNITS[number % len(UNITS)]}
        body = Values(known, {}).resolve(template["body"]) | {"ttl_ms": 3_600_000}
        answer = target.runtime.client.send(
            "reserve",
            operation.method,
            operation.path,
            headers={API_KEY: prepared.secrets["tenant"], "Content-Type": "application/json"},
            body=json.dumps(body),
        )
        if not isinstance(answer, Answer):
            raise TargetLost(f"{target.runtime.client.url} cannot be reached: {answer.failure}")
        target.note_answer(answer.status)
        if isinstance(answer.body, dict):
            reservation = answer.body.get("reservation_id")
            if isinstance(reservation, str):
                yield reservation
