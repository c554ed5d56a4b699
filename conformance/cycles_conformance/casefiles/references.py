"""What no schema can tell of a case: names that lead nowhere, patterns that nothing can read, and
members that would be passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cycles_conformance.assertions.matching import pattern_faults
from cycles_conformance.casefiles.case import KINDS, Case
from cycles_conformance.casefiles.templates import sender_of, templates
from cycles_conformance.values import is_computed, is_value, merge_patch, names_in


def faults(case: Case) -> Iterator[str]:
    """A line for each fault, with its place in the case."""
    tenants = {tenant.name for tenant in case.given.tenants}
    keys = {key.name for key in case.given.keys}
    for key in case.given.keys:
        if key.tenant not in tenants:
            yield f"given: key {key.name}: no tenant is called {key.tenant}"
    for budget in case.given.budgets:
        if budget.tenant not in tenants:
            yield f"given: budget: no tenant is called {budget.tenant}"
    names = _Names(tenants, keys, known=tenants | {f"key:{name}" for name in keys})
    for name, value in case.variables.items():
        yield from (f"vars: {name}: {fault}" for fault in names.unset(value))
        names.known.add(name)
    yield from _faults_of_steps(case.steps, names, "")


@dataclass
class _Names:
    """What the steps of a case can refer to; ``known`` (values) and ``named`` (answers) grow from
    step to step."""

    tenants: set[str]
    keys: set[str]
    known: set[str]
    named: set[str] = field(default_factory=set)

    def unset(self, value: Any) -> Iterator[str]:
        for name in sorted(names_in(value)):
            if name not in self.known and not is_computed(name):
                yield f"nothing sets ${{{name}}}"


def _faults_of_steps(steps: Any, names: _Names, before: str) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        place = f"{before}step {number}"
        yield from (f"{place}: {fault}" for fault in _faults_of_step(step, names))
        if "name" in step:
            names.named.add(step["name"])
        # What the template of a step and the step itself leave behind.
        names.known |= set(templates()[step["do"]].get("save", {})) if "do" in step else set()
        names.known |= set(step.get("save", {}))
        for i, reading in enumerate(step.get("readings", ()), 1):
            names.known |= set(reading.get("save", {}))
            yield from _faults_of_steps(reading.get("then", ()), names, f"{place}: reading {i}: ")


def _faults_of_step(step: Mapping[str, Any], names: _Names) -> Iterator[str]:
    kind = next(kind for kind in KINDS if kind in step)
    for member in step:
        if member != kind and member not in KINDS[kind]:
            yield f"{member}: means nothing beside {kind}"
    if "expect" in step and "readings" in step:
        yield "expect: means nothing beside readings"
    own = {name: value for name, value in step.items() if name != "readings"}
    readings = [
        {name: value for name, value in reading.items() if name != "then"}
        for reading in step.get("readings", ())
    ]
    yield from names.unset([own, readings])
    for i, request in enumerate(step.get("parallel", ()), 1):
        yield from (f"request {i}: {fault}" for fault in _faults_of_request(request, names))
    if kind in ("do", "send", "pages"):
        yield from _faults_of_request(step, names)
    for row in step.get("ledger", ()):
        if row.get("tenant", "tenant") not in names.tenants:
            yield f"ledger: no tenant is called {row.get('tenant', 'tenant')}"
    yield from _faults_of_change(step.get("provision", {}), names)
    expectations = [("expect", step.get("expect", {}))]
    expectations += [(f"reading {i}", reading) for i, reading in enumerate(readings, 1)]
    expectations += [(f"outcome {i}", o) for i, o in enumerate(step.get("outcomes", ()), 1)]
    for place, expectation in expectations:
        same_as = expectation.get("same_as")
        name = same_as["step"] if isinstance(same_as, dict) else same_as
        if name is not None and name not in names.named:
            yield f"{place}: same_as: no step before this one has the name {name}"
        for member in ("body", "text", "headers", "count"):
            for fault in pattern_faults(expectation.get(member)):
                yield f"{place}: {member}: {fault}"
    for member in ("rows", "ledger"):
        yield from (f"{member}: {fault}" for fault in pattern_faults(step.get(member)))


def _faults_of_request(request: Mapping[str, Any], names: _Names) -> Iterator[str]:
    who = sender_of(request)
    if is_value(who):
        # What the step says itself has been looked at.
        yield from (f"as: {fault}" for fault in names.unset("" if "as" in request else who))
    elif who not in names.keys | {"admin", "nobody"}:
        yield f"as: no key is called {who}"
    if "do" not in request:
        return
    wanted = templates()[request["do"]].get("path", {})
    for member in request.get("path", {}):
        if member not in wanted:
            yield f"path: {request['do']} has no {member} in its path"
    for member in ("path", "query", "body"):
        if member == "body" and ("body_exact" in request or "raw" in request):
            continue
        usual = templates()[request["do"]].get(member, {})
        merged = merge_patch(usual, request.get(member, {}))
        unset = {*names.unset(merged)} - {*names.unset(request.get(member, {}))}
        yield from (f"{member}: {fault}" for fault in sorted(unset))


def _faults_of_change(change: Mapping[str, Any], names: _Names) -> Iterator[str]:
    for kind, argument in change.items():
        if kind == "revoke":
            if argument not in names.keys:
                yield f"provision: {kind}: no key is called {argument}"
            continue
        tenant = argument.get("tenant", "tenant") if isinstance(argument, dict) else "tenant"
        if kind.endswith("_tenant"):
            tenant = argument
        if tenant not in names.tenants:
            yield f"provision: {kind}: no tenant is called {tenant}"
