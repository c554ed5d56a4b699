"""What a caller's key may do, and which parts of a dashboard that opens."""

from __future__ import annotations

from cycles_server.auth.principal import Principal
from cycles_server.governance.api_keys import Body, permissions_of
from cycles_server.governance.records import read_record

_SETTLING = tuple(f"reservations:{deed}" for deed in ("create", "commit", "release", "extend"))
_OPENED_BY: dict[str, frozenset[str]] = {
    f"view_{kind}": frozenset((f"{kind}:read", f"admin:{kind}:read", "admin:read"))
    for kind in ("budgets", "policies", "webhooks", "events")
}
_OPENED_BY |= {
    f"manage_{kind}": frozenset((f"{kind}:write", f"admin:{kind}:write", "admin:write"))
    for kind in ("budgets", "policies", "webhooks")
}
_OPENED_BY["view_reservations"] = frozenset((*_SETTLING, "reservations:list", "admin:read"))
_OPENED_BY["manage_reservations"] = frozenset((*_SETTLING, "admin:write"))
_OPENED_BY |= dict.fromkeys(
    (
        *("view_overview", "view_audit", "view_tenants", "view_api_keys"),
        *("manage_tenants", "manage_api_keys"),
    ),
    frozenset(),
)
"""Each capability, and the permissions any one of which opens it; the operator's open to none."""


def introspection(principal: Principal) -> Body:
    """The contract's AuthIntrospectResponse.

    Raises:
        StoreCorrupt: the key's record cannot be read.
    """
    if principal.tenant is None:
        return {
            "authenticated": True,
            "auth_type": "admin",
            "permissions": ["*"],
            "capabilities": dict.fromkeys(_OPENED_BY, True),
        }
    held = principal.permissions
    body: Body = {
        "authenticated": True,
        "auth_type": "tenant",
        "tenant_id": principal.tenant,
        "permissions": permissions_of(read_record(principal.key_id, principal.key_record)),
        "capabilities": {flag: not held.isdisjoint(by) for flag, by in _OPENED_BY.items()},
    }
    if principal.scope_filter:
        body["scope_filter"] = list(principal.scope_filter)
    return body
