"""The engine: Connexion, with every operation of a contract compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.main import API, ConnexionMiddleware

from cycles_server.auth.access import Access
from cycles_server.contract.document import Contract, ContractError
from cycles_server.contract.operations import OperationsApp
from cycles_server.contract.requests import CompiledRequestMiddleware
from cycles_server.contract.resolver import HandlerResolver
from cycles_server.contract.responses import CompiledResponseMiddleware
from cycles_server.contract.routing import ContractRouter
from cycles_server.contract.security import Authenticator, CompiledSecurityMiddleware
from cycles_server.http.bounds import BodyBounds

if TYPE_CHECKING:
    from cycles_server.settings.common import CommonSettings


class ContractApp(ConnexionMiddleware):  # type: ignore[misc]
    """Serves one contract.

    From the outside in: lifespan, routing, the check of the answer, security, the check of the
    request, the handler. Connexion asks each layer once for each operation; what a request
    meets is ready.

    Args:
        handlers: the package in which :class:`HandlerResolver` looks.
        services: what each handler gets.
        access: who may call each operation, by operationId.
        statuses: the status of each error code.

    Raises:
        LookupError: an operation has no handler.
        ContractError: the contract uses what this engine does not support, or the tables do not
            know all that it declares.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        handlers: str,
        services: Any,
        access: Mapping[str, Access],
        authenticators: Sequence[Authenticator],
        statuses: Mapping[str, int],
        settings: CommonSettings,
        on_violation: Callable[[str, int], None],
        lifespan: Callable[[Any], Any],
    ) -> None:
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
            resolver=HandlerResolver(handlers),
        )
        unknown = contract.error_codes - statuses.keys()
        if unknown:
            raise ContractError(f"no status is declared for {', '.join(sorted(unknown))}")
        self.apis.append(
            # Connexion's own add_api() reads documents of OpenAPI 3.0 only.
            API(
                contract.specification(),
                base_path=None,
                name=contract.title,
                **self.options.__dict__,
                services=services,
                access=access,
                authenticators=authenticators,
                statuses=statuses,
                max_body_bytes=settings.cycles_max_body_bytes,
                body_bounds=BodyBounds(
                    values=settings.cycles_max_body_values, depth=settings.cycles_max_body_depth
                ),
                mode=settings.cycles_response_validation,
                on_violation=on_violation,
            )
        )
        # Now, so that a contract that cannot be served stops the start.
        try:
            self.app, self.middleware_stack = self._build_middleware_stack()
        except ValueError as error:
            raise ContractError(f"the contract cannot be served: {error}") from None
        absent = access.keys() - contract.operation_ids
        if absent:
            raise ContractError(f"access is declared for {', '.join(sorted(absent))}: no operation")
