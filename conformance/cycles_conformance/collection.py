"""The cases: read from YAML, held against their JSON Schema, and handed out in order."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from cycles_conformance import clauses as clauses_
from cycles_conformance.clauses import Clause
from cycles_conformance.contract import YAML_FAULTS, Contract, yaml_fault, yaml_loader
from cycles_conformance.matching import pattern_faults, shown
from cycles_conformance.provision import BudgetWish, Given, KeyWish, TenantWish
from cycles_conformance.results import Level
from cycles_conformance.values import is_computed, names_in

KINDS: dict[str, frozenset[str]] = {
    "do": frozenset(
        {"as", "name", "path", "query", "headers", "body", "body_exact", "raw"}
        | {"expect", "readings", "save", "times", "until"}
    ),
    "send": frozenset(
        {"as", "name", "query", "headers", "body_exact", "raw"}
        | {"expect", "readings", "save", "times", "until"}
    ),
    "parallel": frozenset({"outcomes", "same"}),
    "pages": frozenset({"as", "query", "headers", "most", "rows", "unique", "save"}),
    "ledger": frozenset({"within"}),
    "wait": frozenset(),
    "provision": frozenset(),
}
"""What a step can be, and the members that mean something beside it."""
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
DEFAULT_UNIT = "TOKENS"
DEFAULT_ALLOCATED = 10**9
SHARED = Given(
    (TenantWish("tenant"),),
    (KeyWish("tenant", "tenant"),),
    tuple(BudgetWish("tenant", "", unit, 10**15) for unit in UNITS),
    shared=True,
)
"""``given: shared``"""


class CaseFileError(ValueError):
    """A case file that cannot be used; one line for each fault: file, case, field."""


@dataclass(frozen=True)
class Case:
    """``steps`` and ``vars`` are as in the file; ``cases/README.md`` describes them."""

    id: str
    area: str
    level: Level
    clauses: tuple[str, ...]
    why: str
    requires: tuple[str, ...]
    given: Given
    variables: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    operations: frozenset[str]
    """The operations that its steps send requests to."""


@dataclass(frozen=True)
class Collection:
    cases: tuple[Case, ...]
    clauses: Mapping[str, Clause]
    areas: Mapping[str, str]
    """What each area is about."""


def load(folder: Path | None = None, contract: Contract | None = None) -> Collection:
    """All cases of a folder, or the bundled ones; ``contract`` (default: the bundled one) is what
    their clauses quote. Raises CaseFileError with every fault found."""
    source: Traversable = folder or importlib.resources.files("cycles_conformance.cases")
    try:
        files = sorted(
            (file for file in source.iterdir() if file.name.endswith(".yaml")),
            key=lambda file: file.name,
        )
    except OSError as error:
        raise CaseFileError(f"{source} cannot be read: {error.strerror}") from error
    if not [file for file in files if file.name != clauses_.FILE]:
        raise CaseFileError(f"{source} holds no .yaml file of cases")
    faults: list[str] = []
    documents = {}
    for file in files:
        schema = "clauses.schema.json" if file.name == clauses_.FILE else "case.schema.json"
        document = _read(file, schema, faults)
        if document is not None:
            documents[file.name] = document
    if clauses_.FILE not in [file.name for file in files]:
        faults.append(f"{source} holds no {clauses_.FILE}")
    if faults:
        raise CaseFileError("\n".join(faults))
    clauses = list(clauses_.read(documents.pop(clauses_.FILE)))
    collection = _collect(documents, clauses, faults)
    used = {clause_id for case in collection.cases for clause_id in case.clauses}
    found = clauses_.faults(clauses, contract or Contract.load(), used)
    faults += [f"{clauses_.FILE}: {fault}" for fault in found]
    if faults:
        raise CaseFileError("\n".join(faults))
    return collection


@functools.cache
def templates() -> dict[str, dict[str, Any]]:
    """The request templates by name."""
    text = _format_file("requests.yaml")
    found: dict[str, dict[str, Any]] = yaml.load(text, Loader=yaml_loader())  # noqa: S506
    return found


def all_steps(steps: Any) -> Iterator[Mapping[str, Any]]:
    """Every step, those of ``then`` and the requests of ``parallel`` included."""
    for step in steps:
        yield step
        yield from step.get("parallel", ())
        for reading in step.get("readings", ()):
            yield from all_steps(reading.get("then", ()))


def _read(file: Traversable, schema: str, faults: list[str]) -> dict[str, Any] | None:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml_loader())  # noqa: S506
        odd = list(_odd_names(document, []))
    except OSError as error:
        faults.append(f"{file.name}: cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        faults.append(f"{file.name}: cannot be read: it is not UTF-8")
        return None
    except YAML_FAULTS as error:
        faults.append(f"{file.name}: not YAML: {yaml_fault(error)}")
        return None
    found = odd or [
        (path, what)
        for error in _schema(schema).iter_errors(document)
        for path, what in _plainly(error)
    ]
    # In the order of the file; numbers and names never meet at one depth of one place.
    found.sort(key=lambda fault: [(isinstance(token, str), token) for token in fault[0]])
    faults += [f"{file.name}: {_where(document, path)}: {what}" for path, what in found]
    return None if found else document


def _collect(
    documents: Mapping[str, dict[str, Any]], clauses: list[Clause], faults: list[str]
) -> Collection:
    by_id = {clause.clause_id: clause for clause in clauses}
    areas: dict[str, str] = {}
    for name, document in documents.items():
        if document["area"] in areas:
            faults.append(f"{name}: the area {document['area']} has a file already")
        areas[document["area"]] = document["about"]
    cases: dict[str, Case] = {}
    for name, document in documents.items():
        for entry in document["cases"]:
            where = f"{name}: case {entry['id']}"
            if not isinstance(entry.get("vars", {}).get("unit", ""), str):
                faults.append(f"{where}: vars: unit is not a text")
                continue
            case = _case(document["area"], entry)
            if case.id in cases:
                faults.append(f"{where}: another case has this id")
            faults += [
                f"{where}: clause: no clause is called {clause_id}"
                for clause_id in case.clauses
                if clause_id not in by_id
            ]
            faults += [f"{where}: {fault}" for fault in _faults(case)]
            cases[case.id] = case
    return Collection(tuple(cases.values()), by_id, areas)


def _case(area: str, entry: dict[str, Any]) -> Case:
    variables = entry.get("vars", {})
    unit = variables.get("unit", DEFAULT_UNIT)
    clauses = entry["clause"]
    steps = tuple(entry["steps"])
    sent = {step.get("do") or step.get("pages") for step in all_steps(steps)}
    if any("ledger" in step for step in all_steps(steps)):
        sent.add("balances")
    return Case(
        id=entry["id"],
        area=area,
        level=entry["level"],
        clauses=tuple(clauses) if isinstance(clauses, list) else (clauses,),
        why=entry["why"],
        requires=tuple(entry.get("requires", ())),
        given=_given(entry.get("given", {}), unit, steps),
        variables=variables,
        steps=steps,
        operations=frozenset(templates()[name]["operation"] for name in sent if name),
    )


def _given(given: Any, unit: str, steps: tuple[Mapping[str, Any], ...]) -> Given:
    if given == "shared":
        return SHARED
    tenants = []
    for name, settings in given.get("tenants", {"tenant": {}}).items():
        rest = {k: v for k, v in settings.items() if k not in ("status", "record")}
        tenants.append(
            TenantWish(
                name,
                status=settings.get("status", "ACTIVE"),
                settings=rest,
                record=settings.get("record", True),
            )
        )
    keys = [KeyWish(tenant.name, tenant.name) for tenant in tenants]
    for name, key in given.get("keys", {}).items():
        permissions, scope_filter = key.get("permissions"), key.get("scope_filter")
        keys.append(
            KeyWish(
                name,
                key.get("tenant", "tenant"),
                permissions=None if permissions is None else tuple(permissions),
                scope_filter=None if scope_filter is None else tuple(scope_filter),
                revoked=key.get("status") == "REVOKED",
                expired=key.get("expired", False),
            )
        )
    budgets = tuple(
        BudgetWish(
            tenant=budget.get("tenant", "tenant"),
            scope=budget.get("scope", ""),
            unit=budget.get("unit", unit).replace("${unit}", unit),
            allocated=budget.get("allocated", DEFAULT_ALLOCATED),
            overdraft_limit=budget.get("overdraft_limit", 0),
            status=budget.get("status", "ACTIVE"),
            debt=budget.get("debt", 0),
            is_over_limit=budget.get("is_over_limit"),
            commit_overage_policy=budget.get("commit_overage_policy"),
            caps=budget.get("caps"),
        )
        for budget in given.get("budgets", ())
    )
    kinds = [next(iter(step["provision"])) for step in all_steps(steps) if "provision" in step]
    return Given(tuple(tenants), tuple(keys), budgets, tuple(dict.fromkeys(kinds)))


def _faults(case: Case) -> Iterator[str]:
    """What no schema can tell: names that lead nowhere, patterns that nothing can read, and
    members that would be passed over in silence."""
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
    who = request.get("as", "tenant")
    if who not in names.keys | {"admin", "nobody"}:
        yield f"as: no key is called {who}"
    if "do" not in request:
        return
    wanted = templates()[request["do"]].get("path", {})
    for member in request.get("path", {}):
        if member not in wanted:
            yield f"path: {request['do']} has no {member} in its path"
    defaults = {
        name: value for name, value in wanted.items() if name not in request.get("path", {})
    }
    yield from (f"path: {fault}" for fault in names.unset(defaults))


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


Place = list[str | int]


def _odd_names(node: Any, path: Place) -> Iterator[tuple[Place, str]]:
    """Names that are not texts: YAML reads ``on``, ``no`` and ``200`` as something else."""
    if isinstance(node, list):
        for i, element in enumerate(node):
            yield from _odd_names(element, [*path, i])
    elif isinstance(node, dict):
        for name, member in node.items():
            if isinstance(name, str):
                yield from _odd_names(member, [*path, name])
            else:
                yield (
                    path,
                    f"the name {shown(name)} is not a text (on, off, yes, no, 1 need quotes)",
                )


def _where(document: Any, path: Place) -> str:
    """``case commit-x: step 2: expect/status`` for a place; people count from 1."""
    tokens, words = list(path), []
    if len(tokens) >= 2 and tokens[0] == "cases":
        entry = document["cases"][tokens[1]]
        named = entry.get("id") if isinstance(entry, dict) else None
        words.append(f"case {named or f'number {int(tokens[1]) + 1}'}")
        tokens = tokens[2:]
        while len(tokens) >= 2 and tokens[0] in _COUNTED and isinstance(tokens[1], int):
            words.append(f"{_COUNTED[str(tokens[0])]} {tokens[1] + 1}")
            tokens = tokens[2:]
    if tokens:
        words.append("/".join(str(token) for token in tokens))
    return ": ".join(words) or "the file"


_COUNTED = {
    "steps": "step",
    "then": "step",
    "readings": "reading",
    "parallel": "request",
    "outcomes": "outcome",
    "ledger": "row",
}


def _plainly(error: ValidationError) -> Iterator[tuple[Place, str]]:
    """Place and words of what a schema found; of alternatives, what is wrong with the one that was
    meant."""
    path = list(error.absolute_path)
    if error.validator != "oneOf":
        message = error.message if len(error.message) <= 300 else error.message[:300] + "…"
        yield path, message
    elif isinstance(error.instance, dict) and error.validator_value == _kinds_in_schema():
        kinds = [kind for kind in KINDS if kind in error.instance]
        if not kinds:
            yield path, f"a step has one of {', '.join(KINDS)}"
        elif len(kinds) > 1:
            yield path, f"a step has one of {', '.join(KINDS)}, not {' and '.join(kinds)}"
        else:
            yield path, f"{kinds[0]} needs outcomes"
    else:
        # An alternative of another type, or another word, is not the one that was meant.
        unlike = ("type", "const", "enum")
        context = error.context or ()
        meant = [inner for inner in context if inner.path or inner.validator not in unlike]
        for inner in meant:
            yield from _plainly(inner)
        if not meant:
            yield path, f"{shown(error.instance)} cannot stand here"


def _kinds_in_schema() -> Any:
    return _schema("case.schema.json").schema["$defs"]["step"]["oneOf"]


@functools.cache
def _schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(_format_file(name)))


def _format_file(name: str) -> str:
    folder = importlib.resources.files("cycles_conformance.format")
    text: str = (folder / name).read_text(encoding="utf-8")
    return text
