"""The innermost application: calls the handler of the operation that was routed to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from connexion.apps.asynchronous import AsyncApi, AsyncASGIApp

from cycles_server.http.exchange import Exchange, Reply, exchange_of

if TYPE_CHECKING:
    from connexion.operations import AbstractOperation
    from starlette.types import Receive, Scope, Send

Handler = Callable[[Exchange, Any], Awaitable[Reply]]
"""Gets the exchange and its plane's services."""


class CompiledOperation:
    """A handler, ready to be called with an exchange."""

    __slots__ = ("_handler", "_services")

    def __init__(self, handler: Handler, services: Any) -> None:
        self._handler = handler
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.reply = await self._handler(exchange, self._services)


class CompiledOperationAPI(AsyncApi):  # type: ignore[misc]
    def __init__(self, *args: Any, services: Any, **kwargs: Any) -> None:
        self.services = services
        super().__init__(*args, **kwargs)

    def make_operation(self, operation: AbstractOperation) -> CompiledOperation:
        return CompiledOperation(operation.function, self.services)


class OperationsApp(AsyncASGIApp):  # type: ignore[misc]
    api_cls = CompiledOperationAPI
