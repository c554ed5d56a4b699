"""Schemathesis against the runtime plane."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cycles_conformance.casefiles.given import SHARED, UNITS
from cycles_conformance.casefiles.templates import operation_of, templates
from cycles_conformance.client import Answer, TargetLost
from cycles_conformance.fuzzing.running import Amount, FuzzingError, run_schemathesis
from cycles_conformance.provisioners import Prepared
from cycles_conformance.target import API_KEY, Target
from cycles_conformance.values import Values

HOOKS = Path(__file__).with_name("runtime_hooks.py")
HELD = 50
"""Reservations made beforehand, for requests that need an existing id."""


def fuzz_runtime(target: Target, spec: Path | None, amount: Amount) -> int:
    """As ``run_schemathesis``, which see. Raises ProvisioningError and TargetLost as well."""
    if reason := target.provisioner.lacks(SHARED):
        raise FuzzingError(f"fuzzing needs a tenant with budgets: {reason}")
    prepared = target.prepare(SHARED)
    reservations = list(_held(target, prepared))
    if not reservations:
        raise FuzzingError("no reservation could be made: run the cases first")
    return run_schemathesis(
        spec,
        "cycles-protocol-v0.yaml",
        target.runtime.client.url,
        {API_KEY: prepared.secrets["tenant"]},
        HOOKS,
        {
            "CYCLES_FUZZ_TENANT": prepared.tenants["tenant"],
            "CYCLES_FUZZ_RESERVATIONS": " ".join(reservations),
        },
        amount,
    )


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
