"""From an operation to its handler: the tag names the module, the operationId the function."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import inflection
from connexion.resolver import Resolution, Resolver

if TYPE_CHECKING:
    from connexion.operations import AbstractOperation


class HandlerResolver(Resolver):  # type: ignore[misc]
    """``Reservations`` / ``createReservation`` → ``{package}.reservations.create_reservation``.

    Args:
        package: the handlers of one plane. Two planes may each have an operation of one name.
    """

    def __init__(self, package: str) -> None:
        super().__init__()
        self._package = package

    def resolve(self, operation: AbstractOperation) -> Resolution:
        tag = operation._operation["tags"][0]
        function = find_handler(self._package, tag, operation.operation_id)
        return Resolution(function, operation.operation_id)


def find_handler(package: str, tag: str, operation_id: str) -> Any:
    """The handler function of an operation.

    Raises:
        LookupError: no module for the tag, or no function for the operationId.
    """
    module_name = f"{package}.{inflection.underscore(tag.replace(' ', '_'))}"
    name = inflection.underscore(operation_id)
    try:
        return getattr(import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        needed = error.name if isinstance(error, ModuleNotFoundError) else None
        if needed is not None and not f"{module_name}.".startswith(f"{needed}."):
            raise  # the handlers are there; something that they need is not
        raise LookupError(
            f"operation {operation_id} (tag {tag}) has no handler {module_name}.{name}"
        ) from None
