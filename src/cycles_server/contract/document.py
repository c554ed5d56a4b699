"""Loading a contract: an OpenAPI 3.1 document, validated before the server starts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from connexion.spec import OpenAPISpecification
from openapi_spec_validator import validate

_MESSAGE_LENGTH = 240
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class ContractError(ValueError):
    """The document cannot be served: unreadable, not OpenAPI 3.1, or against its rules."""


class OpenAPI31Specification(OpenAPISpecification):  # type: ignore[misc]
    """Connexion's view of a document, without its own check, which knows OpenAPI 3.0 only."""

    @classmethod
    def _validate_spec(cls, spec: dict[str, Any]) -> None:
        return None  # load_contract() has validated it with a validator that knows 3.1


class Contract:
    """A contract document: its text as it is served, and what it says.

    Attributes:
        text: the file itself, for ``/api-docs``.
        document: the parsed document, references unresolved.
    """

    def __init__(self, text: bytes, document: dict[str, Any]) -> None:
        self.text = text
        self.document = document

    @property
    def title(self) -> str:
        return str(self.document["info"]["title"])

    @property
    def version(self) -> str:
        return str(self.document["info"]["version"])

    @property
    def operation_ids(self) -> frozenset[str]:
        return frozenset(
            item[method]["operationId"]
            for item in self.document["paths"].values()
            for method in item
            if method in _METHODS
        )

    @property
    def error_codes(self) -> frozenset[str]:
        """Every code that an ErrorResponse may carry."""
        schemas = self.document.get("components", {}).get("schemas", {})
        return frozenset(schemas.get("ErrorCode", {}).get("enum", ()))

    def specification(self) -> OpenAPI31Specification:
        """A copy for Connexion, which changes what it gets."""
        return OpenAPI31Specification(copy.deepcopy(self.document))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML takes a member twice without a word, the last one counts: not here."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # no JSON has such a member: the validator will say so
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_contract(place: str | Path) -> Contract:
    """Read and validate a contract.

    Args:
        place: the name of a document that is built in, or the path of one.

    Raises:
        ContractError: with one line that says what is wrong.
    """
    source = place if isinstance(place, Path) else files("cycles_server.openapi") / place
    try:
        text = source.read_bytes()
    except OSError as error:
        raise ContractError(f"cannot read the contract {place}: {error.strerror}") from None
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        twice = isinstance(error, yaml.constructor.ConstructorError)
        why = getattr(error, "problem", None) if twice else None
        raise ContractError(f"{source}{line}: {why or 'not valid YAML'}") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3.1"):
        raise ContractError(f"{source}: not an OpenAPI 3.1 document")
    try:
        _check_references(document, document)
        validate(document)
        _check_operations(document)
    except ContractError as error:
        raise ContractError(f"{source}: {error}") from None
    except Exception as error:  # the validator raises classes of several libraries
        where = "/".join(str(part) for part in getattr(error, "absolute_path", ()))
        message = str(getattr(error, "message", error)).partition("\n")[0][:_MESSAGE_LENGTH]
        raise ContractError(f"{source}: {where or 'document'}: {message}") from None
    return Contract(text, document)


def _check_references(document: Mapping[str, Any], node: Any) -> None:
    """Raises: ContractError for a reference that leads nowhere, which the validator lets pass."""
    if isinstance(node, list):
        for item in node:
            _check_references(document, item)
    elif isinstance(node, dict):
        for member in node.values():
            _check_references(document, member)
        passed: list[str] = []
        while isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
            if not reference.startswith("#/") or reference in passed:
                raise ContractError(f"reference {reference}: not to another place in the document")
            passed.append(reference)
            try:
                node = _follow(document, reference)
            except (LookupError, TypeError):
                raise ContractError(f"reference {reference}: leads nowhere") from None


def _check_operations(document: Mapping[str, Any]) -> None:
    """Raises: ContractError for an operation without what names its handler."""
    for path, item in document["paths"].items():
        for method in item:
            if method in _METHODS and not (
                item[method].get("operationId") and item[method].get("tags")
            ):
                raise ContractError(f"{method} {path}: needs an operationId and a tag")


def resolve(document: Mapping[str, Any], node: Any) -> Any:
    """Follow a local ``$ref``, if the node is one."""
    while isinstance(node, dict) and "$ref" in node:
        node = _follow(document, node["$ref"])
    return node


def _follow(document: Mapping[str, Any], reference: str) -> Any:
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return target


class OperationDocument:
    """One operation of a contract, as its compilers read it.

    Every mapping is the document's own; references below the first level are left in place.
    """

    def __init__(self, document: Mapping[str, Any], path: str, method: str) -> None:
        item = document["paths"][path]
        self.document = document
        self.path = path
        self.method = method.upper()
        self.operation: dict[str, Any] = item[method]
        self.operation_id: str = self.operation["operationId"]
        self.tag: str = self.operation["tags"][0]
        self.parameters: list[dict[str, Any]] = [
            resolve(document, parameter)
            for parameter in (*item.get("parameters", ()), *self.operation.get("parameters", ()))
        ]

    @property
    def body(self) -> dict[str, Any] | None:
        """The request body object, if the operation takes one."""
        node = self.operation.get("requestBody")
        return None if node is None else resolve(self.document, node)

    @property
    def responses(self) -> dict[str, dict[str, Any]]:
        return {
            str(status): resolve(self.document, node)
            for status, node in self.operation.get("responses", {}).items()
        }
