"""Answers are held against the contract: a wrong one is withheld, reported or let pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.edges import check_error
from support.reading import T0, put_reservation
from support.running import Running, StartServer
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import Tenant

from cycles_server.contract.document import ContractError, load_contract
from cycles_server.planes.application import create_app
from cycles_server.planes.runtime import RUNTIME
from cycles_server.settings.loading import load_settings
from cycles_server.settings.runtime import RuntimeSettings

WRONG_SUBJECT = '{"tenant":"%s","colour":"blue"}'


def planted(running: Running) -> tuple[Tenant, str]:
    """A tenant with a reservation whose subject has a member that the contract does not know."""
    tenant = running.tenant()
    tenant.budget()
    wrong = put_reservation(
        running.redis, tenant.names, T0, subject_json=WRONG_SUBJECT % tenant.name
    )
    return tenant, wrong


def violations(running: Running) -> dict[str, float]:
    """Counted so far, by operation."""
    headers = {"X-Admin-API-Key": ADMIN_KEY}
    text = httpx.get(f"{running.url}/actuator/prometheus", headers=headers).text
    pattern = r'^cycles_response_violations_total\{operation_id="(\w+)",status="200"\} (\S+)$'
    return {name: float(value) for name, value in re.findall(pattern, text, re.MULTILINE)}


@pytest.mark.parametrize("mode", ["enforce", "report", "off"])
def test_a_wrong_answer(start: StartServer, mode: str) -> None:
    running = start(CYCLES_RESPONSE_VALIDATION=mode)
    tenant, wrong = planted(running)
    good = tenant.reserved()
    answers = [tenant.get(wrong), tenant.list()]
    if mode == "enforce":
        for answer in answers:
            body = check_error(answer, 500, "INTERNAL_ERROR")
            assert "colour" not in body["message"]
    else:
        assert answers[0].json()["subject"] == {"tenant": tenant.name, "colour": "blue"}
        assert len(answers[1].json()["reservations"]) == 2
    log = running.server.log.read_text()
    counted = violations(running)
    if mode == "off":
        assert "against the contract" not in log
        assert not any(counted.values())
    else:
        for operation, answer in zip(("getReservation", "listReservations"), answers, strict=True):
            [line] = [line for line in log.splitlines() if f"contract: {operation} 200" in line]
            assert "colour" in line
            assert answer.headers["x-request-id"] in line
            assert counted[operation] == 1
    # Other answers are none the worse for it.
    assert tenant.get(good).status_code == 200
    assert tenant.commit(good, 1).status_code == 200


def modified(tmp_path: Path, change: Any) -> Path:
    """A copy of the contract with a change."""
    document = yaml.safe_load(load_contract(RUNTIME.contract).text)
    change(document)
    path = tmp_path / "contract.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_another_document_is_served(start: StartServer, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["info"]["title"] = "Another edition"
        post = document["paths"]["/v1/reservations"]["post"]
        post["responses"] = {"2XX": post["responses"]["200"], "default": post["responses"]["400"]}
        schemas = document["components"]["schemas"]
        schemas["ReservationCreateRequest"]["properties"]["ttl_ms"]["maximum"] = 70_000
        schemas["Metadata"]["properties"] = {"inner": {"$ref": "#/components/schemas/Metadata"}}

    running = start(arguments=("--spec", str(modified(tmp_path, change))))
    tenant = running.tenant()
    tenant.budget()
    assert tenant.reserve(ttl_ms=70_000, metadata={"inner": {"inner": {}}}).status_code == 200
    body = check_error(tenant.reserve(ttl_ms=70_001), 400, "INVALID_REQUEST")
    assert "ttl_ms" in body["message"]
    check_error(tenant.reserve(metadata={"inner": 1}), 400, "INVALID_REQUEST")
    check_error(tenant.reserve(10**9), 409, "BUDGET_EXCEEDED")
    served = tenant.http.get("/api-docs", headers={"X-Admin-API-Key": ADMIN_KEY}).json()
    assert served["info"]["title"] == "Another edition"


def _post(document: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"]["/v1/decide"]["post"]
    return operation


def _add_parameter(document: dict[str, Any], **node: Any) -> None:
    _post(document).setdefault("parameters", []).append({"name": "extra", **node})


BROKEN: dict[str, tuple[Any, str]] = {
    "older OpenAPI": (lambda d: d.update(openapi="3.0.3"), "not an OpenAPI 3.1 document"),
    "no info": (lambda d: d.pop("info"), "info"),
    "no operationId": (lambda d: _post(d).pop("operationId"), "post /v1/decide: needs an"),
    "no tag": (lambda d: _post(d).update(tags=[]), "post /v1/decide: needs an"),
    "no handler": (lambda d: _post(d).update(operationId="launchRocket"), "launchRocket"),
    "lost reference": (
        lambda d: d["components"]["schemas"].pop("ErrorResponse"),
        "#/components/schemas/ErrorResponse: leads nowhere",
    ),
    "reference to a file": (
        lambda d: d["components"]["schemas"].update(Amount={"$ref": "other.yaml#/Amount"}),
        "other.yaml#/Amount",
    ),
    "reference to itself": (
        lambda d: d["components"]["schemas"].update(Amount={"$ref": "#/components/schemas/Amount"}),
        "#/components/schemas/Amount",
    ),
    "bad pattern": (
        lambda d: d["components"]["schemas"]["Sha256Hex"].update(pattern="("),
        "is not a 'regex'",
    ),
    "unknown type": (lambda d: d["components"]["schemas"]["Amount"].update(type="x"), "'x'"),
    "unknown security": (lambda d: _post(d).update(security=[{"Token": []}]), "Token"),
    "cookie": (
        lambda d: _add_parameter(d, schema={"type": "string"}, **{"in": "cookie"}),
        "extra: in cookie is not supported",
    ),
    "no path": (lambda d: d["paths"].update({"/v1/decide": None}), "/v1/decide"),
}


def complaint(document: Path) -> str:
    """What the start would print instead of starting."""
    with pytest.raises((ContractError, LookupError)) as caught:
        create_app(RUNTIME, load_settings(RuntimeSettings, {}), spec=document)
    assert type(caught.value) in (ContractError, LookupError)
    return str(caught.value)


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_document_is_one_clear_line(tmp_path: Path, change: Any, expected: str) -> None:
    message = complaint(modified(tmp_path, change))
    assert expected in message
    assert "\n" not in message
    assert len(message) < 500


def test_what_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    for content, expected in (
        (b"a: [1", "line 2: not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a", "not an OpenAPI 3.1 document"),
        (b"", "not an OpenAPI 3.1 document"),
    ):
        path.write_bytes(content)
        assert expected in complaint(path)
    assert "No such file" in complaint(tmp_path / "missing.yaml")
    assert "Is a directory" in complaint(tmp_path)


@pytest.mark.parametrize("kind", ["no tag", "no handler", "unknown security"])
def test_the_server_does_not_start_on_it(running: Running, tmp_path: Path, kind: str) -> None:
    change, expected = BROKEN[kind]
    log = tmp_path / "log"
    server = CyclesServer(
        running.store.url,
        log,
        arguments=("--spec", str(modified(tmp_path, change))),
        wait=False,
    )
    try:
        assert server.process.wait(60) == 2
    finally:
        server.kill()
    [line] = log.read_text().splitlines()
    assert line.startswith("Error: ")
    assert expected in line
