"""Who may call an operation: each plane has a table of these, by operationId."""

from __future__ import annotations

from dataclasses import dataclass

from cycles_server.auth.principal import Principal
from cycles_server.refusal import Refusal, unauthorized


@dataclass(frozen=True, slots=True)
class Access:
    """What an operation asks of its caller.

    Attributes:
        permissions: any one of them lets a tenant's key in; with none, every key is let in.
        while_suspended: whether it stays open to the keys of a suspended tenant.
        confirmed_by_script: whether its script compares the caller's records in the same step.
            Such an operation needs no read of the key beforehand; one that ends before its script
            has run (a bad body, say) is confirmed before the caller is told.
        public: whether nobody is asked who they are.
        lacking: the code that a key without permission is refused with.
    """

    permissions: frozenset[str]
    while_suspended: bool = False
    confirmed_by_script: bool = False
    public: bool = False
    lacking: str = "FORBIDDEN"


PUBLIC = Access(frozenset(), public=True)
"""An operation that the contract gives no security: nobody is asked who they are."""

ANY_KEY = Access(frozenset())
"""Every caller that is authenticated, whatever its key may do."""


def allow(
    *permissions: str,
    while_suspended: bool = False,
    confirmed_by_script: bool = False,
    lacking: str = "FORBIDDEN",
) -> Access:
    """Keys with any one of these permissions, of which there must be one."""
    if not permissions:
        raise ValueError("name a permission")
    return Access(
        frozenset(permissions),
        while_suspended=while_suspended,
        confirmed_by_script=confirmed_by_script,
        lacking=lacking,
    )


def require(access: Access, principal: Principal) -> None:
    """Check that the caller may use an operation.

    Raises:
        Refusal: UNAUTHORIZED for a suspended tenant, the operation's code for a missing permission.
    """
    if principal.is_admin:
        return
    if principal.policy.suspended and not access.while_suspended:
        raise unauthorized()
    wanted = access.permissions
    if wanted and principal.permissions.isdisjoint(wanted):
        names = " or ".join(sorted(wanted))
        raise Refusal(access.lacking, f"This API key lacks the permission {names}")
