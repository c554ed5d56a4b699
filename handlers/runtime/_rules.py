"""Rules that the contract states in prose, shared by several operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cycles_server.auth.scopefilter import admits
from cycles_server.http.exchange import Exchange
from cycles_server.ledger.accounts import Account
from cycles_server.ledger.call import Call
from cycles_server.ledger.ledger import Outcome
from cycles_server.ledger.refusals import refusal
from cycles_server.planes.runtime import Services
from cycles_server.refusal import Refusal, forbidden, invalid
from cycles_server.scopes import Scopes, derive_scopes


def check_idempotency_header(exchange: Exchange) -> None:
    """Header and body must name the same key (contract: Idempotency)."""
    header = exchange.header(b"x-idempotency-key")
    if header is not None and header != exchange.body["idempotency_key"]:
        raise invalid("X-Idempotency-Key", "does not match idempotency_key in the request body")


def subject_scopes(exchange: Exchange) -> Scopes:
    """The scopes of the request's subject, on the caller's own account.

    Raises:
        Refusal: 400 for a value that no scope can hold, 403 for another tenant's subject or one
            outside the key's scope filter.
    """
    subject = exchange.body["subject"]
    scopes = derive_scopes(subject)
    caller = exchange.caller
    if subject.get("tenant", caller.tenant) != caller.tenant:
        raise forbidden("subject.tenant is not the tenant of this API key")
    if caller.scope_filter and not admits(caller.scope_filter, scopes.path):
        raise forbidden(f"This API key is limited to other scopes than {scopes.path}")
    return scopes


def effective_tenant(exchange: Exchange) -> str:
    """Whose data a read shows: the tenant of the caller's key, or the one the operator names.

    Raises:
        Refusal: 403 for a ``tenant`` that is not the key's, 400 for none by the operator
            (contract: listReservations, tenancy).
    """
    caller = exchange.caller
    named: str = exchange.query.get("tenant", "")
    if caller.tenant is None:
        if not named.strip():
            raise invalid(
                "", "tenant query parameter is required when using admin key authentication"
            )
        return named
    if named.strip() and named != caller.tenant:
        raise forbidden("tenant is not the tenant of this API key")
    return caller.tenant


async def reservation_account(
    exchange: Exchange, services: Services, reservation_id: str
) -> Account:
    """The account that a call on an existing reservation works on.

    A tenant's key works on its own account, and its script tells whether the reservation is
    there. The operator works on the owner's.

    Raises:
        Refusal: 404 if the operator's reservation does not exist; 403 outside a scope filter.
    """
    caller = exchange.caller
    if not caller.is_admin and not caller.scope_filter:
        return services.accounts.of_caller(caller)
    owner = await services.accounts.owner(reservation_id)
    if owner is None:
        raise refusal("NOT_FOUND")
    tenant, scope_path = owner
    if caller.is_admin:
        return await services.accounts.for_operator(tenant)
    if tenant != caller.tenant:
        raise refusal("FORBIDDEN")
    if not admits(caller.scope_filter, scope_path):
        raise forbidden("This API key is limited to other scopes than this reservation's")
    return services.accounts.of_caller(caller)


def call_of(exchange: Exchange, account: Account) -> Call:
    """The ledger's call for a request that works on an account."""
    return Call(
        account, exchange.confirmation, exchange.request_id, exchange.trace_id, exchange.client
    )


async def counted(operation: Awaitable[Outcome], denied: Callable[[str], None]) -> Outcome:
    """A ledger operation's outcome; a refusal of the ledger is counted with its code on the way.

    A bad request and a store that failed are nobody's denial.
    """
    try:
        return await operation
    except Refusal as problem:
        if problem.code not in ("INVALID_REQUEST", "UNAUTHORIZED", "FORBIDDEN", "INTERNAL_ERROR"):
            denied(problem.code)
        raise
