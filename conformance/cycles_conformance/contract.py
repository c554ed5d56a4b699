"""The contract of a plane: operations, declared answers, schemas."""

from __future__ import annotations

import copy
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

from cycles_conformance.breaches import Breach
from cycles_conformance.planes import ADMIN, RUNTIME
from cycles_conformance.values import MISSING, at_pointer, parse_json
from cycles_conformance.yaml_text import YAML_FAULTS, yaml_fault, yaml_loader

_URI = "urn:cycles-contract"
_BUNDLED = {RUNTIME: "cycles-protocol-v0.yaml", ADMIN: "cycles-governance-admin.yaml"}
_INDISPENSABLE = "createReservation"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_TELL_NO_VALUE = ("required", "additionalProperties", "dependentRequired")
_SHOWN = 5
_THROTTLED, _THROTTLED_ANSWER = 429, "RateLimited"
"""A server may throttle any call, whether or not its operation declares the answer."""
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


@dataclass(frozen=True)
class CheckedAnswer:
    """An answer held against the contract.

    Attributes:
        breaches: what in it breaks its declared shape.
        body: what there is to judge it by: the parsed body (MISSING when it is not JSON) without
            the members that are null and may not be. Each is a breach, and as good as absent.
    """

    breaches: list[Breach]
    body: Any


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
        shared = self.document.get("components", {}).get("responses", {})
        self._throttled = (
            f"/components/responses/{_THROTTLED_ANSWER}" if _THROTTLED_ANSWER in shared else None
        )
        self.operations = {
            operation.operation_id: operation for operation in self._read_operations()
        }
        if plane == RUNTIME and _INDISPENSABLE not in self.operations:
            raise ContractError(
                f"{name} is no contract of the Cycles runtime: it has no operation {_INDISPENSABLE}"
            )

    @classmethod
    def load(cls, path: Path | None = None, plane: str = RUNTIME) -> Contract:
        """Of a file, or the one that is bundled for the plane. Raises ContractError."""
        if path is None:
            return _bundled(plane)
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
    ) -> CheckedAnswer:
        """What in an answer breaks the contract. ``headers`` by lower-case name; ``named`` are
        statuses that a case expects although the operation may not declare them."""
        value, why_none = _parsed(body)
        breaches = _check_identifiers(status, headers, value)
        pointer = (
            operation.responses.get(str(status))
            or operation.responses.get(f"{status // 100}XX")
            or operation.responses.get("default")
        )
        if pointer is None and status == _THROTTLED:
            pointer = self._throttled
        if pointer is None:
            if status not in (*named, _THROTTLED):
                breaches.append(
                    _always(f"status {status} is not declared for {operation.operation_id}")
                )
            return CheckedAnswer(breaches, value)
        response = self._at(pointer)
        for name, declared in response.get("headers", {}).items():
            breaches += self._check_header(name, declared, headers.get(name.lower()))
        content = response.get("content", {}).get("application/json")
        if content is None:
            return CheckedAnswer(breaches, value)
        kind = headers.get("content-type", "")
        if kind.split(";")[0].strip().lower() != "application/json":
            breaches.append(
                _always(f"content type is {kind or 'absent'}, expected application/json")
            )
        if value is MISSING:
            said = f"the body is not JSON ({why_none}): {body[:80]!r}"
            breaches.append(Breach("the body is not JSON", said))
            return CheckedAnswer(breaches, value)
        errors = self._errors(f"{self._pointer_of_content(pointer)}/schema", value)
        nulls = [error for error in errors if error.instance is None]
        if nulls:
            value = _without(value, [list(error.absolute_path) for error in nulls])
        return CheckedAnswer(breaches + [_breach_of(error) for error in errors], value)

    def check_schema(self, name: str, value: Any) -> list[str]:
        """What is wrong with a value by a schema of ``components.schemas``. Raises KeyError for an
        unknown schema."""
        if name not in self.document.get("components", {}).get("schemas", {}):
            raise KeyError(name)
        errors = self._errors(f"/components/schemas/{name}", value)
        return [f"{_place(error)}: {_said(error)}" for error in errors[:_SHOWN]]

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

    def _check_header(self, name: str, declared: dict[str, Any], sent: str | None) -> list[Breach]:
        while "$ref" in declared:
            declared = self._at(declared["$ref"].removeprefix("#"))
        if sent is None:
            return [_always(f"header {name} is missing")] if declared.get("required") else []
        schema = declared.get("schema", {})
        value: Any = sent
        if schema.get("type") == "integer":
            if not _INTEGER.fullmatch(sent):
                kind = f"header {name} is no integer"
                return [Breach(kind, f"header {name} is {sent!r}, expected an integer")]
            value = int(sent)
        if "$ref" in schema:
            errors = self._errors(schema["$ref"].removeprefix("#"), value)
        else:
            errors = [*Draft202012Validator(schema, format_checker=formats).iter_errors(value)]
        return [
            Breach(f"header {name}: {error.validator}", f"header {name}: {_said(error)}")
            for error in errors[:1]
        ]

    def _validator(self, pointer: str) -> Draft202012Validator:
        if pointer not in self._validators:
            schema = {"$ref": f"{_URI}#{pointer}"}
            self._validators[pointer] = Draft202012Validator(
                schema, registry=self._registry, format_checker=formats
            )
        return self._validators[pointer]

    def _errors(self, pointer: str, value: Any) -> list[ValidationError]:
        return sorted(self._validator(pointer).iter_errors(value), key=lambda e: list(e.path))


@functools.cache
def _bundled(plane: str) -> Contract:
    folder = importlib.resources.files("cycles_conformance.openapi")
    text = (folder / _BUNDLED[plane]).read_text(encoding="utf-8")
    return Contract(text, "the bundled contract", plane)


def _check_identifiers(status: int, headers: Mapping[str, str], body: Any) -> list[Breach]:
    """The rules on ids that hold for every answer, whatever the operation."""
    found = []
    request_id = headers.get("x-request-id")
    trace_id = headers.get("x-cycles-trace-id")
    if not request_id:
        found.append(_always("header X-Request-Id is missing"))
    if not trace_id:
        found.append(_always("header X-Cycles-Trace-Id is missing"))
    elif not _TRACE_ID.fullmatch(trace_id) or not trace_id.strip("0"):
        kind = "header X-Cycles-Trace-Id is no trace id"
        said = f"header X-Cycles-Trace-Id is {trace_id!r}, expected 32 lower-case hex digits"
        found.append(Breach(kind, said))
    if status < 400 or not isinstance(body, dict):
        return found
    if request_id and body.get("request_id", request_id) != request_id:
        said = f"body /request_id is {body['request_id']!r}, the header {request_id!r}"
        found.append(Breach("body /request_id is not the header's", said))
    if trace_id and body.get("trace_id") != trace_id:
        said = f"body /trace_id is {body.get('trace_id')!r}, the header {trace_id!r}"
        found.append(Breach("body /trace_id is not the header's", said))
    return found


def _parsed(body: str) -> tuple[Any, str]:
    """The JSON, or MISSING and why it is none."""
    try:
        return parse_json(body), ""
    except ValueError as error:
        return MISSING, str(error)


def _always(message: str) -> Breach:
    """One whose message has no values of the answer."""
    return Breach(message, message)


def _breach_of(error: ValidationError) -> Breach:
    said = _said(error)
    rule = said
    if error.validator not in _TELL_NO_VALUE and error.instance is not None:
        rule = _shortened(f"{error.validator} {error.validator_value}")
    kind = "/" + "/".join("*" if isinstance(step, int) else step for step in error.absolute_path)
    return Breach(f"body {kind}: {rule}", f"body {_place(error)}: {said}")


def _said(error: ValidationError) -> str:
    message = error.message
    if error.instance is None and message.startswith("None "):
        message = f"null {message.removeprefix('None ')}"
    return _shortened(message)


def _without(value: Any, places: list[list[str | int]]) -> Any:
    """A copy without the members at these places. An element of a list stays: it would change the
    place of those behind it."""
    value = copy.deepcopy(value)
    for place in places:
        holder = value
        for step in place[:-1]:
            holder = holder[step]
        if place and isinstance(holder, dict):
            holder.pop(place[-1], None)
    return value


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
