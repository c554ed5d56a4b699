"""The contract of a plane: operations, declared answers, schemas."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from cycles_conformance.planes import RUNTIME
from cycles_conformance.values import at_pointer, parse_json
from cycles_conformance.yaml_text import YAML_FAULTS, yaml_fault, yaml_loader

_URI = "urn:cycles-contract"
_INDISPENSABLE = "createReservation"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,100}")

formats = FormatChecker()


@formats.checks("int64")  # type: ignore[untyped-decorator]
def _is_int64(value: object) -> bool:
    # A float too: 1e30 is an integer to JSON Schema.
    return not isinstance(value, int | float) or -(2**63) <= value < 2**63


class ContractError(ValueError):
    """The document cannot serve as a contract; one line."""


@dataclass(frozen=True)
class Operation:
    operation_id: str
    method: str
    path: str
    responses: Mapping[str, str]
    """JSON pointer of each declared response object, by status (``200``, ``4XX``, ``default``)."""


class Contract:
    """One OpenAPI document, of one plane. Raises ContractError when it is none."""

    def __init__(self, text: str, name: str = "the contract", plane: str = RUNTIME) -> None:
        self.plane = plane
        try:
            document = _with_text_keys(yaml.load(text, Loader=yaml_loader()))  # noqa: S506
        except YAML_FAULTS as error:
            raise ContractError(f"{name} is not YAML: {yaml_fault(error)}") from error
        if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
            raise ContractError(f"{name} is not an OpenAPI document: it has no paths")
        self.document: dict[str, Any] = document
        if fault := _misshapen(self.document):
            raise ContractError(f"{name} is not an OpenAPI document: {fault}")
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        info = self.document.get("info", {})
        self.title = f"{info.get('title', 'untitled')} {info.get('version', '')}".strip()
        resource = DRAFT202012.create_resource(self.document)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        self._validators: dict[str, Draft202012Validator] = {}
        self.operations = {
            operation.operation_id: operation for operation in self._read_operations()
        }
        if plane == RUNTIME and _INDISPENSABLE not in self.operations:
            raise ContractError(
                f"{name} is no contract of the Cycles runtime: it has no operation {_INDISPENSABLE}"
            )

    @classmethod
    def load(cls, path: Path | None = None, plane: str = RUNTIME) -> Contract:
        """Of a file, or the one that is bundled for the runtime plane. Raises ContractError."""
        if path is None:
            return _bundled()
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ContractError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ContractError(f"{path} cannot be read: it is not UTF-8") from error
        contract = cls(text, str(path), plane)
        # The bundled one is known to be sound, and this takes a while.
        for place, schema in _schemas(contract.document, ""):
            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise ContractError(
                    f"{path}: {place} is no schema: {_shortened(error.message)}"
                ) from error
        return contract

    def check_answer(
        self,
        operation: Operation,
        status: int,
        headers: Mapping[str, str],
        body: str,
        named: Iterable[int] = (),
    ) -> list[str]:
        """What in an answer breaks the contract. ``headers`` by lower-case name; ``named`` are
        statuses that a case expects although the operation may not declare them."""
        problems = _check_identifiers(status, headers, body)
        pointer = (
            operation.responses.get(str(status))
            or operation.responses.get(f"{status // 100}XX")
            or operation.responses.get("default")
        )
        if pointer is None:
            if status not in named:
                problems.append(f"status {status} is not declared for {operation.operation_id}")
            return problems
        response = self._at(pointer)
        for name, declared in response.get("headers", {}).items():
            problems += self._check_header(name, declared, headers.get(name.lower()))
        content = response.get("content", {}).get("application/json")
        if content is None:
            return problems
        kind = headers.get("content-type", "")
        if kind.split(";")[0].strip().lower() != "application/json":
            problems.append(f"content type is {kind or 'absent'}, expected application/json")
        try:
            value = parse_json(body)
        except ValueError as error:
            problems.append(f"the body is not JSON ({error}): {body[:80]!r}")
            return problems
        target = self._pointer_of_content(pointer)
        return problems + self._errors(f"{target}/schema", value, "body ")

    def check_schema(self, name: str, value: Any) -> list[str]:
        """What is wrong with a value by a schema of ``components.schemas``. Raises KeyError for an
        unknown schema."""
        if name not in self.document.get("components", {}).get("schemas", {}):
            raise KeyError(name)
        return self._errors(f"/components/schemas/{name}", value, "")

    def enum(self, schema: str) -> list[str]:
        """The values of an enumeration, empty when the contract has none of that name."""
        found = self.document.get("components", {}).get("schemas", {}).get(schema, {})
        values: list[str] = found.get("enum", [])
        return values

    def _read_operations(self) -> Iterable[Operation]:
        for path, item in self.document["paths"].items():
            for method in _METHODS:
                operation = item.get(method) if isinstance(item, dict) else None
                if not isinstance(operation, dict) or "operationId" not in operation:
                    continue
                base = f"/paths/{_escape(path)}/{method}/responses"
                responses = {
                    status.replace("x", "X"): f"{base}/{status}"
                    for status in operation.get("responses", {})
                }
                yield Operation(operation["operationId"], method.upper(), path, responses)

    def _at(self, pointer: str) -> dict[str, Any]:
        """The object there, its ``$ref`` followed. Raises ContractError."""
        value: Any = self.document
        for token in pointer.split("/")[1:]:
            value = value[token.replace("~1", "/").replace("~0", "~")]
        if "$ref" in value:
            return self._at(value["$ref"].removeprefix("#"))
        found: dict[str, Any] = value
        return found

    def _pointer_of_content(self, pointer: str) -> str:
        value: Any = self.document
        for token in pointer.split("/")[1:]:
            value = value[token.replace("~1", "/").replace("~0", "~")]
        if "$ref" in value:
            return self._pointer_of_content(value["$ref"].removeprefix("#"))
        return f"{pointer}/content/application~1json"

    def _check_header(self, name: str, declared: dict[str, Any], sent: str | None) -> list[str]:
        while "$ref" in declared:
            declared = self._at(declared["$ref"].removeprefix("#"))
        if sent is None:
            return [f"header {name} is missing"] if declared.get("required") else []
        schema = declared.get("schema", {})
        value: Any = sent
        if schema.get("type") == "integer":
            if not _INTEGER.fullmatch(sent):
                return [f"header {name} is {sent!r}, expected an integer"]
            value = int(sent)
        if "$ref" in schema:
            errors = self._errors(schema["$ref"].removeprefix("#"), value, "")
        else:
            validator = Draft202012Validator(schema, format_checker=formats)
            errors = [error.message for error in validator.iter_errors(value)]
        return [f"header {name}: {error}" for error in errors[:1]]

    def _validator(self, pointer: str) -> Draft202012Validator:
        if pointer not in self._validators:
            schema = {"$ref": f"{_URI}#{pointer}"}
            self._validators[pointer] = Draft202012Validator(
                schema, registry=self._registry, format_checker=formats
            )
        return self._validators[pointer]

    def _errors(self, pointer: str, value: Any, what: str) -> list[str]:
        errors = sorted(self._validator(pointer).iter_errors(value), key=lambda e: list(e.path))
        return [f"{what}{_place(error)}: {_shortened(error.message)}" for error in errors[:5]]


@functools.cache
def _bundled() -> Contract:
    folder = importlib.resources.files("cycles_conformance.openapi")
    text = (folder / "cycles-protocol-v0.yaml").read_text(encoding="utf-8")
    return Contract(text, "the bundled contract")


def _check_identifiers(status: int, headers: Mapping[str, str], body: str) -> list[str]:
    """The rules on ids that hold for every answer, whatever the operation."""
    problems = []
    request_id = headers.get("x-request-id")
    trace_id = headers.get("x-cycles-trace-id")
    if not request_id:
        problems.append("header X-Request-Id is missing")
    if not trace_id:
        problems.append("header X-Cycles-Trace-Id is missing")
    elif not _TRACE_ID.fullmatch(trace_id) or not trace_id.strip("0"):
        problems.append(
            f"header X-Cycles-Trace-Id is {trace_id!r}, expected 32 lower-case hex digits"
        )
    if status < 400:
        return problems
    try:
        error = parse_json(body)
    except ValueError:
        return problems
    if not isinstance(error, dict):
        return problems
    if request_id and error.get("request_id", request_id) != request_id:
        problems.append(f"body /request_id is {error['request_id']!r}, the header {request_id!r}")
    if trace_id and error.get("trace_id") != trace_id:
        problems.append(f"body /trace_id is {error.get('trace_id')!r}, the header {trace_id!r}")
    return problems


def _place(error: ValidationError) -> str:
    return "/" + "/".join(str(step) for step in error.absolute_path)


def _shortened(message: str) -> str:
    return message if len(message) <= 300 else message[:300] + "…"


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _with_text_keys(value: Any) -> Any:
    """JSON has no other keys, and ``200:`` without quotes is a number in YAML."""
    if isinstance(value, dict):
        return {str(name): _with_text_keys(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(element) for element in value]
    return value


def _misshapen(document: dict[str, Any]) -> str:
    """Where the document is not what this module takes for granted; empty if nowhere."""
    for name in ("info", "components"):
        if not isinstance(document.get(name, {}), dict):
            return f"{name} is no object"
    for path, item in document["paths"].items():
        if not isinstance(item, dict):
            return f"paths: {path} is no object"
        for method in _METHODS:
            if not isinstance(item.get(method, {}), dict):
                return f"paths: {path}: {method} is no object"
            if not isinstance(item.get(method, {}).get("responses", {}), dict):
                return f"paths: {path}: {method}: responses is no object"
    return next(_dangling(document, document), "")


def _dangling(node: Any, document: dict[str, Any]) -> Iterator[str]:
    """References that lead nowhere, or out of the document."""
    if isinstance(node, list):
        for element in node:
            yield from _dangling(element, document)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            try:
                found = reference.startswith("#/") and at_pointer(document, reference[1:]) != node
            except KeyError:
                found = False
            if not found:
                yield f"$ref {reference} leads nowhere in this document"
        for name, member in node.items():
            if name not in ("example", "examples"):
                yield from _dangling(member, document)


def _schemas(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every schema that answers can be held against, with its place."""
    if isinstance(node, list):
        for i, element in enumerate(node):
            yield from _schemas(element, f"{place}/{i}")
    elif isinstance(node, dict):
        for name, member in node.items():
            here = f"{place}/{_escape(name)}"
            if name == "schema":
                yield here, member
            elif here == "/components/schemas" and isinstance(member, dict):
                for schema in member:
                    yield f"{here}/{_escape(schema)}", member[schema]
            elif name not in ("example", "examples"):
                yield from _schemas(member, here)
