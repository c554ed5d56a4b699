"""Asks a server, before the cases, which optional things it offers."""

from __future__ import annotations

import json
from typing import Any

from cycles_conformance.casefiles.given import SHARED, UNITS
from cycles_conformance.casefiles.templates import operation_of, templates
from cycles_conformance.client import Answer, path_of
from cycles_conformance.planes import ADMIN
from cycles_conformance.target import ADMIN_KEY, API_KEY, OPERATOR, Target
from cycles_conformance.values import Values

OPTIONAL = ("decide", "event", "list", "get", "balances")
"""Templates of the operations that a server may leave out, reserving aside."""
_NOT_THERE = (404, 405, 501)


def look(target: Target) -> None:
    """Note in the target which optional operations and features are not there. Without a tenant
    to ask with, everything counts as offered. Raises ProvisioningError, TargetLost."""
    features = set(target.features)
    if target.provisioner.lacks(SHARED):
        return
    prepared = target.prepare(SHARED)
    values = {"tenant": prepared.tenants["tenant"], "self": prepared.tenants["tenant"]}
    values["unit"] = UNITS[1]
    key = {API_KEY: prepared.secrets["tenant"]}
    reserved = _send(target, "reserve", values, key)
    if isinstance(reserved, Answer):
        target.note_answer(reserved.status)
    if isinstance(reserved, Answer) and isinstance(reserved.body, dict):
        # Asked for with a made-up id, an operation that is there could seem not to be.
        if isinstance(reserved.body.get("reservation_id"), str):
            values["reservation"] = reserved.body["reservation_id"]
        if "cycles_evidence" in reserved.body:
            features.add("evidence")
    not_offered = {}
    for name in OPTIONAL:
        if name == "get" and "reservation" not in values:
            continue
        operation = operation_of(name)
        if operation.operation_id not in target.runtime.contract.operations:
            continue
        answer = _send(target, name, values, key)
        if isinstance(answer, Answer) and answer.status in _NOT_THERE:
            not_offered[operation] = f"status {answer.status}"
    if "reservation" in values:
        _send(target, "release", values, key)
    # Given for the admin plane, the operator's key need not be known to the other one.
    if OPERATOR in features and ADMIN in target.planes and operation_of("list") not in not_offered:
        answer = _send(target, "list", values, {ADMIN_KEY: target.admin_key or ""})
        if isinstance(answer, Answer) and answer.status == 401:
            features.remove(OPERATOR)
    target.features = frozenset(features)
    target.not_offered = not_offered


def _send(target: Target, name: str, values: dict[str, Any], key: dict[str, str]) -> Any:
    template = templates()[name]
    operation = target.operation(operation_of(name))
    known = Values(values, {})
    body = known.resolve(template["body"]) if "body" in template else None
    return target.runtime.client.send(
        f"probe {name}",
        operation.method,
        path_of(operation.path, known.resolve(template.get("path", {}))),
        query=known.resolve(template.get("query", {})),
        headers={**key, "Content-Type": "application/json"},
        body=None if body is None else json.dumps(body),
    )
