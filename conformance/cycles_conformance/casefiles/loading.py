"""The cases: read from YAML, checked, and handed out in order."""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from cycles_conformance.casefiles import clauses as clause_file
from cycles_conformance.casefiles import references, shape
from cycles_conformance.casefiles.case import Case, Collection, all_steps
from cycles_conformance.casefiles.clauses import Clause
from cycles_conformance.casefiles.files import CLAUSES, is_of_clauses, yaml_files
from cycles_conformance.casefiles.given import DEFAULT_UNIT, given_of
from cycles_conformance.casefiles.templates import operation_of, plane_of
from cycles_conformance.contract import Contract
from cycles_conformance.planes import PLANES
from cycles_conformance.yaml_text import YAML_FAULTS, yaml_fault, yaml_loader


class CaseFileError(ValueError):
    """A case file that cannot be used; one line for each fault: file, case, field."""


def load(folder: Path | None = None, contracts: Mapping[str, Contract] | None = None) -> Collection:
    """All cases of a folder, or the bundled ones; ``contracts`` (by plane; default: what is
    bundled) are what their clauses quote. Raises CaseFileError with every fault found."""
    contracts = contracts or {plane: Contract.load(plane=plane) for plane in PLANES}
    source: Traversable = folder or importlib.resources.files("cycles_conformance.cases")
    try:
        files = yaml_files(source)
    except OSError as error:
        raise CaseFileError(f"{source} cannot be read: {error.strerror}") from error
    if all(is_of_clauses(name) for name in files):
        raise CaseFileError(f"{source} holds no .yaml file of cases")
    faults: list[str] = []
    documents = {}
    for name, file in files.items():
        schema = "clauses.schema.json" if is_of_clauses(name) else "case.schema.json"
        document = _read(name, file, schema, faults)
        if document is not None:
            documents[name] = document
    if CLAUSES not in files:
        faults.append(f"{source} holds no {CLAUSES}")
    if faults:
        raise CaseFileError("\n".join(faults))
    clauses = {
        name: list(clause_file.read(documents.pop(name))) for name in files if is_of_clauses(name)
    }
    collection = _collect(documents, list(itertools.chain(*clauses.values())), contracts, faults)
    used = {clause_id for case in collection.cases for clause_id in case.clauses}
    faults += clause_file.faults(clauses, contracts, used)
    if faults:
        raise CaseFileError("\n".join(faults))
    return collection


def _read(name: str, file: Traversable, schema: str, faults: list[str]) -> dict[str, Any] | None:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml_loader())  # noqa: S506
        found = shape.faults(document, schema)
    except OSError as error:
        found = [f"cannot be read: {error.strerror}"]
    except UnicodeDecodeError:
        found = ["cannot be read: it is not UTF-8"]
    except YAML_FAULTS as error:
        found = [f"not YAML: {yaml_fault(error)}"]
    faults += [f"{name}: {fault}" for fault in found]
    return None if found else document


def _collect(
    documents: Mapping[str, dict[str, Any]],
    clauses: list[Clause],
    contracts: Mapping[str, Contract],
    faults: list[str],
) -> Collection:
    by_id = {clause.clause_id: clause for clause in clauses}
    areas: set[str] = set()
    for name, document in documents.items():
        if document["area"] in areas:
            faults.append(f"{name}: the area {document['area']} has a file already")
        areas.add(document["area"])
    cases: dict[str, Case] = {}
    for name, document in documents.items():
        for entry in document["cases"]:
            entry = _with_the_usual(entry, document)
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
            known = [by_id[clause_id] for clause_id in case.clauses if clause_id in by_id]
            if case.level == "MUST" and known and not any(clause.binds for clause in known):
                faults.append(f"{where}: a MUST needs a clause with a quote or a shape")
            faults += [
                f"{where}: {clause_file.no_contract(plane)}"
                for plane in sorted(case.planes - contracts.keys())
            ]
            faults += [f"{where}: {fault}" for fault in references.faults(case)]
            cases[case.id] = case
    return Collection(tuple(cases.values()), by_id)


def _with_the_usual(entry: dict[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """A case with what the cases of its file have unless they say otherwise."""
    usual = {"given": document["given"]} if "given" in document else {}
    variables = {**document.get("vars", {}), **entry.get("vars", {})}
    return {**usual, **entry, "vars": variables}


def _case(area: str, entry: dict[str, Any]) -> Case:
    variables = entry.get("vars", {})
    unit = variables.get("unit", DEFAULT_UNIT)
    clauses = entry["clause"]
    steps = tuple(entry["steps"])
    sent = {step.get("do") or step.get("pages") for step in all_steps(steps)}
    if any("ledger" in step for step in all_steps(steps)):
        sent.add("balances")
    operations = frozenset(operation_of(name) for name in sent if name)
    return Case(
        id=entry["id"],
        area=area,
        level=entry["level"],
        clauses=tuple(clauses) if isinstance(clauses, list) else (clauses,),
        why=entry["why"],
        requires=tuple(entry.get("requires", ())),
        given=given_of(entry.get("given", {}), unit, steps),
        variables=variables,
        steps=steps,
        operations=operations,
        planes=frozenset(ref.plane for ref in operations)
        | {plane_of(step) for step in all_steps(steps) if "send" in step},
    )
