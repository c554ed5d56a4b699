"""Request validation: parameters and body of one operation, compiled from the contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from connexion.middleware.request_validation import (
    RequestValidationAPI,
    RequestValidationMiddleware,
)

from cycles_server.contract.document import OperationDocument, resolve
from cycles_server.contract.schemas import CompiledSchema, SchemaCompiler
from cycles_server.http.bounds import BodyBounds
from cycles_server.http.exchange import Exchange, exchange_of
from cycles_server.http.media import check_json_body
from cycles_server.jsontext import BYTE_ORDER_MARK, JsonError, Number, read_json
from cycles_server.refusal import invalid

if TYPE_CHECKING:
    from connexion.operations import AbstractOperation
    from starlette.types import ASGIApp, Receive, Scope, Send

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LARGE_BODY = 65_536
_BLANK_IS_ABSENT = "x-blank-counts-as-absent"
"""Of a parameter whose schema has no room for a blank value, which means that it is not given."""
_IGNORED = "x-ignored"
"""Of a parameter of an extension that is not served: it MUST be ignored, whatever it holds."""
_BOOLEANS = {"true": True, "false": False}


def _read_string(text: str) -> str:
    return text


def _read_integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None or not text.isascii():
        raise ValueError(f"{text!r} is not an integer")
    return int(text)


def _read_number(text: str) -> Number:
    # float() alone would also take nan, inf, 1_0 and blanks.
    if _NUMBER.fullmatch(text) is None or not isfinite(number := Number(text)):
        raise ValueError(f"{text!r} is not a number")
    return number


def _read_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def _read_list(text: str) -> list[str]:
    return text.split(",")


_READERS: dict[str, Callable[[str], Any]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    "array": _read_list,
}


class Parameter:
    """One parameter: how it is read from text, and what it must be.

    Attributes:
        blank_is_absent: whether a value of nothing but blanks counts as not given.
    """

    __slots__ = ("blank_is_absent", "name", "read", "required", "schema")

    def __init__(
        self, node: Mapping[str, Any], document: Mapping[str, Any], compiler: SchemaCompiler
    ) -> None:
        self.name: str = node["name"]
        self.required = bool(node.get("required"))
        self.blank_is_absent = bool(node.get(_BLANK_IS_ABSENT))
        if "schema" not in node:
            raise ValueError(f"parameter {self.name}: one without a schema is not supported")
        self.schema: CompiledSchema = compiler.compile(node["schema"])
        kind = resolve(document, node["schema"]).get("type", "string")
        if kind not in _READERS or (kind == "array" and node.get("explode", True)):
            raise ValueError(f"parameter {self.name}: type {kind} in this style is not supported")
        self.read = _READERS[kind]

    def value(self, text: str) -> Any:
        """Raises: Refusal 400 that names the parameter."""
        try:
            value = self.read(text)
        except ValueError as error:
            raise invalid(self.name, str(error)) from None
        plain = float(value) if isinstance(value, Number) else value
        if not self.schema.is_valid(plain):
            raise invalid(self.name, self.schema.violation(plain)[1])
        return value


class CompiledRequest:
    """Checks a request against one operation and leaves what it read in the exchange."""

    def __init__(
        self,
        next_app: ASGIApp,
        operation: OperationDocument,
        compiler: SchemaCompiler,
        *,
        max_body_bytes: int,
        body_bounds: BodyBounds,
        large_bodies: asyncio.Lock,
    ) -> None:
        places: dict[str, list[Parameter]] = {"query": [], "header": [], "path": []}
        for node in operation.parameters:
            if node["in"] not in places:
                raise ValueError(f"parameter {node['name']}: in {node['in']} is not supported")
            if node.get(_IGNORED):
                continue
            places[node["in"]].append(Parameter(node, operation.document, compiler))
        self._query = {parameter.name: parameter for parameter in places["query"]}
        self._required_query = [name for name, item in self._query.items() if item.required]
        self._headers = [(item.name.lower().encode(), item) for item in places["header"]]
        self._path = places["path"]
        self._body: CompiledSchema | None = None
        self._body_required = False
        if operation.body is not None:
            media = operation.body["content"].get("application/json", {})
            if "schema" not in media:
                raise ValueError(f"{operation.operation_id}: needs a schema for a JSON body")
            self._body = compiler.compile(media["schema"])
            self._body_required = bool(operation.body.get("required"))
        self._next = next_app
        self._max_body_bytes = max_body_bytes
        self._bounds = body_bounds
        self._large_bodies = large_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        for parameter in self._path:
            parameter.value(exchange.path_params[parameter.name])
        for name, parameter in self._headers:
            text = exchange.header(name)
            if text is not None:
                parameter.value(text)
        if self._query:
            exchange.query = self._read_query(exchange.query_string)
        if self._body is not None:
            await self._read_body(self._body, exchange, receive)
        await self._next(scope, receive, send)

    def _read_query(self, query_string: bytes) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if query_string:
            try:
                pairs = parse_qsl(
                    query_string.decode("ascii"), keep_blank_values=True, errors="strict"
                )
            except (UnicodeDecodeError, ValueError):
                raise invalid("query", "not percent-encoded UTF-8") from None
            for name, text in pairs:
                parameter = self._query.get(name)
                if parameter is None:
                    continue  # the contract grows by parameters that older servers ignore
                if name in values:
                    raise invalid(name, "given more than once")
                if parameter.blank_is_absent and not text.strip():
                    continue
                values[name] = parameter.value(text)
        for name in self._required_query:
            if name not in values:
                raise invalid(name, "is required")
        return values

    async def _read_body(
        self, schema: CompiledSchema, exchange: Exchange, receive: Receive
    ) -> None:
        raw = await exchange.read_body(receive, self._max_body_bytes)
        if not raw and not self._body_required:
            return
        check_json_body(exchange.header(b"content-type"), exchange.header(b"content-encoding"))
        raw = raw.removeprefix(BYTE_ORDER_MARK)
        if len(raw) <= _LARGE_BODY:
            exchange.body = self._valid(schema, self._parsed(schema, raw))
            return
        # However many come together: one piece of one of them, then everybody else has a turn.
        async with self._large_bodies:
            parsed = self._parsed(schema, raw)
            await asyncio.sleep(0)
            exchange.body = self._valid(schema, parsed)
            await asyncio.sleep(0)

    def _parsed(self, schema: CompiledSchema, raw: bytes) -> tuple[Any, bool]:
        try:
            self._bounds.check(raw)
            return read_json(raw, schema.open_members)
        except JsonError as error:
            raise invalid("body", str(error)) from None

    @staticmethod
    def _valid(schema: CompiledSchema, parsed: tuple[Any, bool]) -> Any:
        body, closer_look = parsed
        if not schema.is_valid(body):
            where, message = schema.violation(body)
            raise invalid(where or "body", message)
        return schema.with_integers(body) if closer_look else body


class CompiledRequestAPI(RequestValidationAPI):  # type: ignore[misc]
    """Connexion's request validation, with each operation compiled when the contract is loaded."""

    def __init__(
        self, *args: Any, max_body_bytes: int, body_bounds: BodyBounds, **kwargs: Any
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self.body_bounds = body_bounds
        self.large_bodies = asyncio.Lock()
        self.compiler = SchemaCompiler(args[0].raw)
        super().__init__(*args, **kwargs)

    def make_operation(self, operation: AbstractOperation) -> CompiledRequest:
        document = OperationDocument(self.specification.raw, operation.path, operation.method)
        return CompiledRequest(
            self.next_app,
            document,
            self.compiler,
            max_body_bytes=self.max_body_bytes,
            body_bounds=self.body_bounds,
            large_bodies=self.large_bodies,
        )


class CompiledRequestMiddleware(RequestValidationMiddleware):  # type: ignore[misc]
    api_cls = CompiledRequestAPI
