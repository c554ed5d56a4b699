"""Rules that the contract states in prose, shared by several operations."""

from __future__ import annotations

from cycles_server.auth.redaction import without_secrets
from cycles_server.auth.scopefilter import admits
from cycles_server.governance.call import Call
from cycles_server.http.exchange import Exchange
from cycles_server.planes.admin import Services
from cycles_server.refusal import forbidden, invalid
from cycles_server.scopes import lower_case


def call_of(exchange: Exchange, services: Services) -> Call:
    """Governance's call for a request."""
    return Call(
        principal=exchange.caller,
        confirmation=exchange.confirmation,
        request_id=exchange.request_id,
        trace_id=exchange.trace_id,
        client=exchange.client,
        user_agent=without_secrets(
            exchange.header(b"user-agent") or "", services.settings.admin_api_key
        )[:512],
        audit_days=services.settings.audit_retention_authenticated_days,
    )


def check_scope_filter(exchange: Exchange, scope: str) -> None:
    """Raises: Refusal 403 for a scope (in any case) that the caller's key is not for."""
    if not admits(exchange.caller.scope_filter, lower_case(scope)):
        raise forbidden(f"This API key is limited to other scopes than {scope}")


def named_tenant(exchange: Exchange) -> str:
    """Whose budget is worked on: the key's tenant, or the one that the operator's query names.

    Raises:
        Refusal: 400 for an operator that names none (contract: AdminKeyAuth).
    """
    caller = exchange.caller
    if caller.tenant is not None:
        return caller.tenant
    named: str = exchange.query.get("tenant_id", "")
    if not named.strip():
        raise invalid("tenant_id", "is required with the operator's key")
    return named


def owner_in_body(exchange: Exchange) -> str:
    """Whose the new resource is to be: the body names it for the operator, and only then.

    Raises:
        Refusal: 400 for an operator that names none, and for a tenant's key that names one.
    """
    caller = exchange.caller
    named = exchange.body.get("tenant_id")
    if caller.tenant is None:
        if not (named or "").strip():
            raise invalid("tenant_id", "is required with the operator's key")
        return str(named)
    if named is not None:
        raise invalid("tenant_id", "is not taken from a tenant's key: it says whose it is")
    return caller.tenant
