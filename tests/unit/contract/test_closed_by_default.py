"""What nobody has thought of stops the start, with one line that names it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cycles_server.auth.access import ANY_KEY, PUBLIC, Access
from cycles_server.contract.document import ContractError, load_contract
from cycles_server.planes.application import create_app
from cycles_server.planes.plane import Plane
from cycles_server.planes.runtime import RUNTIME
from cycles_server.settings.runtime import RuntimeSettings

DOCUMENT = yaml.safe_load(load_contract(RUNTIME.contract).text)


def complaint(plane: Plane, spec: Path | None = None) -> str:
    with pytest.raises(ContractError) as caught:
        create_app(plane, RuntimeSettings(), spec=spec)
    return str(caught.value)


def without(table: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


def test_an_operation_that_the_access_table_forgot() -> None:
    for operation_id in ("decide", "getEvidence"):
        forgetful = replace(RUNTIME, access=without(RUNTIME.access, operation_id))
        assert operation_id in complaint(forgetful)


@pytest.mark.parametrize(("operation_id", "access"), [("decide", PUBLIC), ("getEvidence", ANY_KEY)])
def test_a_table_that_contradicts_the_contract(operation_id: str, access: Access) -> None:
    # One that is open here and closed there, and the other way round.
    wrong = replace(RUNTIME, access={**RUNTIME.access, operation_id: access})
    assert operation_id in complaint(wrong)


def test_access_for_an_operation_that_is_none() -> None:
    strange = replace(RUNTIME, access={**RUNTIME.access, "launchRocket": ANY_KEY})
    assert "launchRocket" in complaint(strange)


def test_handlers_that_are_not_there() -> None:
    with pytest.raises(LookupError, match=r"has no handler cycles_server\.handlers\.moon\."):
        create_app(replace(RUNTIME, handlers="cycles_server.handlers.moon"), RuntimeSettings())


def test_an_error_code_without_a_status() -> None:
    assert "BUDGET_FROZEN" in complaint(
        replace(RUNTIME, statuses=without(RUNTIME.statuses, "BUDGET_FROZEN"))
    )


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_one_path_under_two_names_of_its_parameter(tmp_path: Path) -> None:
    def twice(document: dict[str, Any]) -> None:
        paths = document["paths"]
        same = paths.pop("/v1/evidence/{evidence_id}")
        name = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        same["get"]["parameters"] = [name]
        same.pop("parameters", None)
        paths["/v1/reservations/{id}"] = same

    told = complaint(RUNTIME, changed(tmp_path, twice))
    assert "/v1/reservations/{id}" in told
    assert "/v1/reservations/{reservation_id}" in told


def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    text = load_contract(RUNTIME.contract).text.decode()
    path.write_text(text + "\ninfo:\n  title: Another\n  version: '2'\n", encoding="utf-8")
    assert "info is there twice" in complaint(RUNTIME, path)
    second = "\n  /v1/balances:\n    get: {operationId: getBalances}"
    path.write_text(text.replace("\npaths:", f"\npaths:{second}", 1), encoding="utf-8")
    assert "/v1/balances is there twice" in complaint(RUNTIME, path)


def test_two_schemes_at_a_time(tmp_path: Path) -> None:
    def both(document: dict[str, Any]) -> None:
        schemes = document["components"]["securitySchemes"]
        document["paths"]["/v1/decide"]["post"]["security"] = [{name: [] for name in schemes}]

    assert "decide" in complaint(RUNTIME, changed(tmp_path, both))
