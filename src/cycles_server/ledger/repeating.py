"""Calls on an operator's account, repeated until its tenant's record stands still."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cycles_server.auth.confirmation import StaleCredential
from cycles_server.ledger.accounts import Accounts
from cycles_server.ledger.call import Call
from cycles_server.store.errors import StoreUnavailable

_ATTEMPTS = 4


class HasAccounts(Protocol):
    """Who offers such calls."""

    accounts: Accounts


_Self = TypeVar("_Self", bound=HasAccounts)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def repeated_for_operator(
    operation: Callable[Concatenate[_Self, Call, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_Self, Call, _P], Coroutine[Any, Any, _T]]:
    """An operation that reads a changed record again, where no caller's key stands behind the call.

    Raises (the function that is returned, when awaited):
        StaleCredential: the records of a caller's key have changed; whoever has its secret repeats.
        StoreUnavailable: the tenant's record changes faster than it can be read.
    """

    async def repeating(self: _Self, call: Call, /, *args: _P.args, **named: _P.kwargs) -> _T:
        for _ in range(_ATTEMPTS):
            try:
                return await operation(self, call, *args, **named)
            except StaleCredential:
                account = await self.accounts.for_operator(call.account.names.tenant)
                call = replace(call, account=account)
        raise StoreUnavailable("the tenant's record changes faster than it can be read")

    @wraps(operation)
    def begun(
        self: _Self, call: Call, /, *args: _P.args, **named: _P.kwargs
    ) -> Coroutine[Any, Any, _T]:
        asked = repeating if call.account.by_operator else operation
        return asked(self, call, *args, **named)

    return begun
