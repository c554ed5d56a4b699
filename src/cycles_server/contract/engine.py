"""The protocol plane: Connexion, with every operation of a contract compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.main import API, ConnexionMiddleware

from cycles_server.contract.document import Contract, ContractError
from cycles_server.contract.operations import OperationsApp
from cycles_server.contract.requests import CompiledRequestMiddleware
from cycles_server.contract.resolver import HandlerResolver
from cycles_server.contract.responses import CompiledResponseMiddleware
from cycles_server.contract.routing import ContractRouter
from cycles_server.contract.security import Authenticator, CompiledSecurityMiddleware
from cycles_server.http.bounds import BodyBounds
from cycles_server.planes.services import Services


class ProtocolPlane(ConnexionMiddleware):  # type: ignore[misc]
    """Serves one or more contracts.

    From the outside in: lifespan, routing, the check of the answer, security, the check of the
    request, the handler. Connexion asks each layer once for each operation; what a request
    meets is ready.
    """

    def __init__(self, services: Services, *, lifespan: Callable[[Any], Any]) -> None:
        super().__init__(
            OperationsApp(),
            lifespan=lifespan,
            middlewares=[
                LifespanMiddleware,
                ContractRouter,
                CompiledResponseMiddleware,
                CompiledSecurityMiddleware,
                CompiledRequestMiddleware,
            ],
            resolver=HandlerResolver(),
        )
        self._services = services

    def add_contract(self, contract: Contract, *, authenticators: list[Authenticator]) -> None:
        """Serve a contract; its operations are compiled by :meth:`build`."""
        settings = self._services.settings
        self.apis.append(
            # Connexion's own add_api() reads documents of OpenAPI 3.0 only.
            API(
                contract.specification(),
                base_path=None,
                name=contract.title,
                **self.options.__dict__,
                services=self._services,
                authenticators=authenticators,
                max_body_bytes=settings.cycles_max_body_bytes,
                body_bounds=BodyBounds(
                    values=settings.cycles_max_body_values, depth=settings.cycles_max_body_depth
                ),
                mode=settings.cycles_response_validation,
                on_violation=self._services.metrics.response_violation,
            )
        )

    def build(self) -> None:
        """Compile now, so that a contract that cannot be served stops the start.

        Raises:
            LookupError: an operation has no handler.
            ContractError: the contract uses what this engine does not support.
        """
        try:
            self.app, self.middleware_stack = self._build_middleware_stack()
        except ValueError as error:
            raise ContractError(f"the contract cannot be served: {error}") from None
