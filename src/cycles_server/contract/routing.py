"""Routing: which operation a method and path name, straight from the contract's paths."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from connexion.middleware.abstract import ROUTING_CONTEXT, SpecMiddleware

from cycles_server.http.exchange import exchange_of
from cycles_server.http.problems import method_not_allowed, no_such_path

if TYPE_CHECKING:
    from connexion.spec import Specification
    from starlette.types import ASGIApp, Receive, Scope, Send

_PARAMETER = re.compile(r"\{(\w+)\}")
_ENCODED_SLASH = re.compile(b"%2[fF]")


class _Path:
    """One path template, and the operation of each of its methods."""

    __slots__ = ("operations", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self.operations: dict[str, dict[str, str]] = {}

    def routing(self, method: str) -> dict[str, str]:
        """Connexion's routing context for a method.

        Raises:
            Problem: 405 with the methods that the path has.
        """
        try:
            return self.operations[method]
        except KeyError:
            raise method_not_allowed(method, self.operations) from None


class ContractRouter(SpecMiddleware):  # type: ignore[misc]
    """Finds the operation and leaves it in the scope for Connexion's other middlewares.

    A path matches exactly or not at all: no redirect to a path with or without a slash. One that
    is declared twice stops the start (ValueError).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._exact: dict[str, _Path] = {}
        self._templates: list[tuple[re.Pattern[str], _Path]] = []
        self._shapes: dict[str, str] = {}

    def add_api(self, specification: Specification, base_path: str | None = None, **_: Any) -> None:
        base = specification.base_path if base_path is None else base_path
        for template, item in specification["paths"].items():
            path = _Path(base + template)
            # Two templates that differ in the names of their parameters are one path.
            shape = _PARAMETER.sub("{}", path.template)
            if shape in self._shapes:
                raise ValueError(f"{path.template} is the same path as {self._shapes[shape]}")
            self._shapes[shape] = path.template
            for method, operation in item.items():
                if isinstance(operation, dict) and "operationId" in operation:
                    path.operations[method.upper()] = {
                        "api_base_path": base,
                        "operation_id": operation["operationId"],
                    }
            if _PARAMETER.search(template):
                pattern = "".join(
                    f"(?P<{part}>[^/]*)" if index % 2 else re.escape(part)
                    for index, part in enumerate(_PARAMETER.split(path.template))
                )
                self._templates.append((re.compile(pattern, re.DOTALL), path))
            else:
                self._exact[path.template] = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        if _ENCODED_SLASH.search(scope.get("raw_path") or b""):
            # Part of an id, not of the path: decoded, it would name another operation.
            raise no_such_path()
        path = self._exact.get(exchange.path)
        if path is None:
            for pattern, candidate in self._templates:
                match = pattern.fullmatch(exchange.path)
                if match is not None:
                    path = candidate
                    exchange.path_params = match.groupdict()
                    break
            else:
                raise no_such_path()
        exchange.route = path.template
        routed = path.routing(exchange.method)
        exchange.operation_id = routed["operation_id"]
        scope["extensions"][ROUTING_CONTEXT] = routed
        await self.app(scope, receive, send)
