"""Which permission each operation of the runtime plane asks for."""

from __future__ import annotations

from cycles_server.auth.principal import Principal
from cycles_server.refusal import forbidden, unauthorized

# Any one of an operation's permissions will do. The clients' documentation issues keys with
# `decide` and `events:create`, which the governance contract does not list; both count.
REQUIRED: dict[str, frozenset[str]] = {
    "decide": frozenset({"reservations:create", "decide"}),
    "createReservation": frozenset({"reservations:create"}),
    "commitReservation": frozenset({"reservations:commit"}),
    "releaseReservation": frozenset({"reservations:release"}),
    "extendReservation": frozenset({"reservations:extend"}),
    "listReservations": frozenset({"reservations:list"}),
    "getReservation": frozenset({"reservations:list"}),
    "getBalances": frozenset({"balances:read", "admin:read"}),
    "createEvent": frozenset({"reservations:commit", "events:create"}),
}

# What was spent before a suspension must still reach the ledger, and may be looked at.
OPEN_WHILE_SUSPENDED = frozenset(
    {
        "commitReservation",
        "releaseReservation",
        "listReservations",
        "getReservation",
        "getBalances",
    }
)


def require(operation_id: str, principal: Principal) -> None:
    """Check that the caller may use an operation.

    Raises:
        Refusal: 401 for a suspended tenant, 403 for a missing permission.
    """
    if principal.is_admin:
        return
    if principal.policy.suspended and operation_id not in OPEN_WHILE_SUSPENDED:
        raise unauthorized()
    wanted = REQUIRED.get(operation_id)
    if wanted is not None and principal.permissions.isdisjoint(wanted):
        raise forbidden(f"This API key lacks the permission {' or '.join(sorted(wanted))}")
