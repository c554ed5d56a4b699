"""Security: the contract's schemes and requirements, compiled to who may call an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from connexion.middleware.security import SecurityAPI, SecurityMiddleware

from cycles_server.auth.access import Access, require
from cycles_server.auth.confirmation import StaleCredential
from cycles_server.auth.principal import Principal
from cycles_server.http.exchange import Exchange, exchange_of
from cycles_server.http.problems import Problem
from cycles_server.refusal import Refusal, unauthorized
from cycles_server.store.errors import StoreCorrupt, StoreFault, StoreUnavailable

if TYPE_CHECKING:
    from connexion.operations import AbstractOperation
    from starlette.types import ASGIApp, Receive, Scope, Send

_ATTEMPTS = 10
"""A caller's records may change while they are looked at, say because its last use is noted."""


class Authenticator(Protocol):
    """Verifies the secret of one header."""

    header: bytes

    def recall(self, secret: str) -> Principal | None:
        """The principal of a secret verified before, not confirmed now."""

    async def authenticate(self, secret: str) -> Principal:
        """The principal of a secret by the records as they are now. Raises: Refusal
        UNAUTHORIZED."""

    def close(self) -> None:
        """Give back what it holds."""


class CompiledSecurity:
    """Authenticates and authorizes the caller of one operation."""

    def __init__(
        self,
        next_app: ASGIApp,
        access: Access,
        authenticators: Sequence[Authenticator],
    ) -> None:
        self._next = next_app
        self._access = access
        self._authenticators = authenticators
        self._in_script = access.confirmed_by_script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        authenticator, secret = self._credential(exchange)
        principal = authenticator.recall(secret) if self._in_script else None
        confirmation = exchange.confirmation
        confirmation.done = principal is None
        if principal is None:
            principal = await authenticator.authenticate(secret)
        for _ in range(_ATTEMPTS):
            exchange.principal = principal
            exchange.tenant = principal.tenant
            try:
                require(self._access, principal)
                await self._next(scope, receive, send)
                if not confirmation.done:
                    raise RuntimeError(f"{exchange.route}: no script has confirmed the caller")
                return
            except StaleCredential:
                principal = await authenticator.authenticate(secret)
            except (Problem, Refusal, StoreCorrupt, StoreFault):
                # Said of a key that nobody has looked at in this exchange: look first.
                if confirmation.done:
                    raise
                fresh = await authenticator.authenticate(secret)
                if fresh is principal:
                    raise
                principal = fresh
            confirmation.done = True
        raise StoreUnavailable("the records of the key change faster than they can be read")

    def _credential(self, exchange: Exchange) -> tuple[Authenticator, str]:
        for authenticator in self._authenticators:
            secret = exchange.header(authenticator.header)
            if secret is not None and secret.strip():
                return authenticator, secret
        raise unauthorized()


class CompiledSecurityAPI(SecurityAPI):  # type: ignore[misc]
    """Connexion's security, compiled for each operation from its requirements.

    Closed by default: an operation that the table does not know, or whose place in it contradicts
    the contract, cannot be served (ValueError).
    """

    def __init__(
        self,
        *args: Any,
        access: Mapping[str, Access],
        authenticators: Sequence[Authenticator],
        **kwargs: Any,
    ) -> None:
        self.access = access
        self.authenticators = authenticators
        super().__init__(*args, **kwargs)

    def make_operation(self, operation: AbstractOperation) -> Any:
        operation_id = operation.operation_id
        access = self.access.get(operation_id)
        if access is None:
            raise ValueError(f"{operation_id}: nobody has declared who may call it")
        if access.public == bool(operation.security):
            raise ValueError(
                f"{operation_id}: {'public' if access.public else 'closed'} in the table of this "
                "plane, not so in the contract"
            )
        if access.public:
            return self.next_app
        if any(len(requirement) != 1 for requirement in operation.security):
            raise ValueError(f"{operation_id}: more than one security scheme at a time")
        headers = {
            self._header(operation, scheme)
            for requirement in operation.security
            for scheme in requirement
        }
        # In the order they are configured: the operator's key, where it counts, decides.
        accepted = [item for item in self.authenticators if item.header in headers]
        if len(accepted) != len(headers):
            raise ValueError(f"{operation_id}: a security scheme has no authenticator")
        return CompiledSecurity(self.next_app, access, accepted)

    @staticmethod
    def _header(operation: AbstractOperation, name: str) -> bytes:
        scheme = operation.security_schemes.get(name, {"type": "undeclared"})
        if scheme["type"] != "apiKey" or scheme["in"] != "header":
            raise ValueError(f"security scheme {name}: only API keys in a header are supported")
        return str(scheme["name"]).lower().encode()


class CompiledSecurityMiddleware(SecurityMiddleware):  # type: ignore[misc]
    api_cls = CompiledSecurityAPI
