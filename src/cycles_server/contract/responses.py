"""Response validation: every answer is held against the contract before it leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from connexion.middleware.response_validation import (
    ResponseValidationAPI,
    ResponseValidationMiddleware,
)

from cycles_server.contract.document import OperationDocument
from cycles_server.contract.refusals import problem_of
from cycles_server.contract.schemas import CompiledSchema, SchemaCompiler
from cycles_server.http.exchange import Exchange, exchange_of
from cycles_server.http.problems import Problem
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreError

if TYPE_CHECKING:
    from connexion.operations import AbstractOperation
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

# Answers that HTTP knows and the contract does not declare for an operation: these are held
# against the error shape alone.
_UNDECLARED = (404, 405, 413, 429)


class CompiledResponses:
    """Runs an operation, turns whatever ends it into a reply, and checks that reply."""

    def __init__(
        self,
        next_app: ASGIApp,
        operation: OperationDocument,
        compiler: SchemaCompiler,
        *,
        mode: str,
        on_violation: Callable[[str, int], None],
        statuses: Mapping[str, int],
    ) -> None:
        self._statuses = statuses
        self._next = next_app
        self._operation_id = operation.operation_id
        self._mode = mode
        self._on_violation = on_violation
        self._schemas: dict[int, CompiledSchema | None] = {}
        # ``4XX`` and ``default`` stand for the statuses that are not declared by themselves.
        self._others: dict[str, CompiledSchema | None] = {}
        for status, response in operation.responses.items():
            media = response.get("content", {}).get("application/json", {})
            schema = media.get("schema")
            compiled = None if schema is None else compiler.compile(schema)
            if status.isdigit():
                self._schemas[int(status)] = compiled
            else:
                self._others[status] = compiled
        error = compiler.compile({"$ref": "#/components/schemas/ErrorResponse"})
        for extra in _UNDECLARED:
            self._schemas.setdefault(extra, error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        try:
            await self._next(scope, receive, send)
        except (Problem, Refusal, StoreError) as error:
            exchange.reply = exchange.error_reply(problem_of(error, exchange, self._statuses))
        if self._mode != "off":
            self._check(exchange)

    def _check(self, exchange: Exchange) -> None:
        reply = exchange.reply
        if reply is None:
            raise RuntimeError(f"{self._operation_id} ended without a reply")
        try:
            schema = self._schema_of(reply.status)
        except LookupError:
            where, why = "status", f"{reply.status} is not declared"
        else:
            if schema is None:
                if reply.is_empty:
                    return
                where, why = "body", "none is declared for this status"
            elif schema.is_valid(reply.body):
                return
            else:
                where, why = schema.violation(reply.body)
        self._on_violation(self._operation_id, reply.status)
        logger.error(
            "answer against the contract: %s %d: %s: %s",
            self._operation_id,
            reply.status,
            where,
            why,
            extra=exchange.ids,
        )
        if self._mode == "enforce":
            exchange.reply = exchange.error_reply(
                Problem("INTERNAL_ERROR", "The server's own answer was against the contract")
            )

    def _schema_of(self, status: int) -> CompiledSchema | None:
        """Raises: LookupError for a status that is not declared."""
        if status in self._schemas:
            return self._schemas[status]
        hundred = f"{status // 100}XX"
        return self._others[hundred if hundred in self._others else "default"]


class CompiledResponseAPI(ResponseValidationAPI):  # type: ignore[misc]
    """Connexion's response validation, compiled for each operation."""

    def __init__(
        self,
        *args: Any,
        mode: str,
        on_violation: Callable[[str, int], None],
        statuses: Mapping[str, int],
        **kwargs: Any,
    ) -> None:
        self.statuses = statuses
        self.mode = mode
        self.on_violation = on_violation
        self.compiler = SchemaCompiler(args[0].raw)
        super().__init__(*args, **kwargs)

    def make_operation(self, operation: AbstractOperation) -> CompiledResponses:
        document = OperationDocument(self.specification.raw, operation.path, operation.method)
        return CompiledResponses(
            self.next_app,
            document,
            self.compiler,
            mode=self.mode,
            on_violation=self.on_violation,
            statuses=self.statuses,
        )


class CompiledResponseMiddleware(ResponseValidationMiddleware):  # type: ignore[misc]
    api_cls = CompiledResponseAPI
