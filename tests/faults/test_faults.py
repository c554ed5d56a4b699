"""The deliberate faults, and the variants that the contract allows, still fit the server: cheap
checks, without starting one."""

from __future__ import annotations

import ast
import functools
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.redis import RedisServer

from cycles_server.contract.document import load_contract
from cycles_server.planes.catalogue import PLANES
from cycles_server.store import scripts
from faults.catalogue import (
    REPOSITORY,
    Change,
    FaultError,
    installed,
    load_faults,
    load_variants,
)

FAULTS = load_faults()
OURS = {
    ".".join(path.relative_to(REPOSITORY / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in (REPOSITORY / "src").rglob("*.py")
}
VARIANTS = load_variants()
CHANGES = FAULTS + VARIANTS
KINDS = {
    "schema": "schemas",
    "parameter": "parameters",
    "header": "headers",
    "response": "responses",
}


def named(change: Change) -> str:
    return change.id


each_change = pytest.mark.parametrize("change", CHANGES, ids=named)


@functools.cache
def places(plane: str) -> set[str]:
    """What a change can name: operations, sections of the introduction, components."""
    path = REPOSITORY / "openapi" / PLANES[plane].contract
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections = re.findall(r"^#{2,3} (.+)$", document["info"]["description"], re.MULTILINE)
    operations = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    components = document["components"]
    return {*sections, *operations} | {
        f"{kind} {name}" for kind, group in KINDS.items() for name in components.get(group, {})
    }


def test_there_are_faults_of_every_area() -> None:
    assert len(FAULTS) >= 60
    assert {fault.area for fault in FAULTS} >= {
        "ledger", "idempotency", "lifecycle", "decisions", "access", "reading", "edges",
        "admin-money", "admin-access", "admin-lifecycle", "admin-reading",
    }  # fmt: skip


def test_there_are_variants_of_every_area() -> None:
    assert len(VARIANTS) >= 30
    assert {variant.area for variant in VARIANTS} >= {
        "answers", "decisions", "leases", "reading", "requests", "access", "keys"
    }  # fmt: skip


@each_change
def test_a_change_is_described(change: Change) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", change.id)
    assert change.about.endswith(".")
    assert change.place in places(change.plane)
    assert change.level in ("MUST", "SHOULD")


@each_change
def test_a_change_fits_and_compiles(change: Change) -> None:
    for file, text in change.patched().items():
        assert (REPOSITORY / file).read_text(encoding="utf-8") != text
        if file.endswith(".py"):
            compile(text, file, "exec")
            assert list(missing(text)) == []


def missing(source: str) -> Iterator[str]:
    """What a module imports from the server and would not get."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
            continue
        if node.module.partition(".")[0] == "cycles_server":
            names = dir(import_module(node.module)) if node.module in OURS else []
            for name in node.names:
                place = f"{node.module}.{name.name}"
                if name.name not in names and place not in OURS:
                    yield place


def scripts_with(file: str) -> list[str]:
    """The scripts that a Lua file is part of."""
    if Path(file).parent.name != "lib":
        return [Path(file).stem]
    include = f"-- @include {Path(file).stem}\n"
    folder = REPOSITORY / "lua"
    return [path.stem for path in folder.glob("*.lua") if include in path.read_text()]


@each_change
def test_its_scripts_load(
    change: Change, store: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {file: text for file, text in change.patched().items() if file.endswith(".lua")}
    if not changed:
        return
    shutil.copytree(REPOSITORY / "lua", tmp_path / "lua")
    for file, text in changed.items():
        (tmp_path / installed(file)).write_text(text, encoding="utf-8")
    monkeypatch.setattr(scripts, "files", lambda _: tmp_path / "lua")
    for name in {script for file in changed for script in scripts_with(file)}:
        script = scripts.load_script.__wrapped__(name)
        assert store.client.script_load(script.source) == script.sha.decode()


@pytest.mark.parametrize(
    "fault",
    [item for item in CHANGES if any(edit.file.startswith("openapi/") for edit in item.edits)],
    ids=named,
)
def test_its_contract_can_be_served(fault: Change, tmp_path: Path) -> None:
    documents = {f: text for f, text in fault.patched().items() if f.startswith("openapi/")}
    for file, text in documents.items():
        path = tmp_path / Path(file).name
        path.write_text(text, encoding="utf-8")
        load_contract(path)


def broken(**changes: Any) -> dict[str, Any]:
    edit = {"file": "lua/commit.lua", "replace": "local last", "with": "local final"}
    fault = {"id": "one", "about": "It shows.", "breaks": "decide", "edits": [edit | changes]}
    return {"area": "ledger", "faults": [fault]}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (broken(replace="no such text"), "one: lua/commit.lua: found 0 times"),
        (broken(replace="redis.call"), "one: lua/commit.lua: found"),
        (broken(file="lua/no.lua"), "one: lua/no.lua: No such file"),
        (broken(replace=""), "replace must not be empty"),
        (broken(by="me"), "has to have the members"),
        ({"area": "ledger"}, "has to have the members"),
        (broken() | {"faults": 2 * broken()["faults"]}, "one is there twice"),
    ],
)
def test_a_fault_that_does_not_fit_is_named(
    document: dict[str, Any], told: str, tmp_path: Path
) -> None:
    (tmp_path / "ledger.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(FaultError, match=re.escape(told)):
        for fault in load_faults(tmp_path):
            fault.patched()
