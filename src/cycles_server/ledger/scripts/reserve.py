"""``lua/reserve.lua``: hold an amount on every budget of a subject, or on none."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.ledger.scripts.head import FOREIGN, NoBudget
from cycles_server.store.answers import REPLAY, from_records
from cycles_server.store.link import Reply

NAME = "reserve"
LIMITED = b"LIMITED"


class Keys(NamedTuple):
    """Behind them the budgets of the scopes, and the policies that could govern; then, if
    reserves are limited, their counter, and, if it is kept, the reference's answer."""

    idempotency_record: str
    reservation: str
    expiries: str
    creations: str
    policies: str


class Arguments(NamedTuple):
    """Behind them the scopes, from the tenant down, and the policies' records."""

    reservation_prefix: str
    request_hash: bytes
    reservation_id: str
    estimate: str
    unit: str
    lease_ms: int
    grace_ms: int
    asked_policy: str
    default_policy: str
    max_extensions: int
    subject: bytes
    action: bytes
    metadata: bytes
    scopes_json: bytes
    idempotency_key: str
    policies_known: int
    policy_count: int
    policy_until: str
    policy_caps: bytes
    policy_limit: str


class Held(NamedTuple):
    """The estimate is held.

    Attributes:
        caps: JSON, empty for none.
        balances: see ``lua/lib/budgets.lua``.
    """

    expires_at_ms: int
    policy: str
    caps: bytes
    balances: bytes


class Replayed(NamedTuple):
    """This very request was asked before; what its reservation keeps of it."""

    now_ms: int
    reservation_id: str
    estimate: int
    unit: str
    created_at_ms: int
    lease_ms: int
    state: bytes
    scope_path: str
    scopes_json: bytes
    caps: bytes | None
    balances: bytes
    policy: str


class Limited(NamedTuple):
    """There were as many reserves in this minute as the governing policy allows."""

    wait_ms: int


class Foreign(NamedTuple):
    """The key belongs to a reservation that another server made."""

    now_ms: int
    reservation_id: str


@from_records
def read(answer: Reply) -> Held | Replayed | Foreign | Limited | NoBudget:
    """The answer by name."""
    kind = answer[0]
    if kind == b"OK":
        _, expires, policy, caps, balances = answer
        return Held(int(expires), policy.decode(), caps, balances)
    if kind == REPLAY:
        (_, now, one, estimate, unit, created, lease, state, path, scopes, caps, rows, policy) = (
            answer
        )
        return Replayed(
            int(now),
            one.decode(),
            int(estimate),
            unit.decode(),
            int(created),
            int(lease),
            state,
            path.decode(),
            scopes,
            caps,
            rows,
            (policy or b"").decode(),
        )
    if kind == LIMITED:
        return Limited(int(answer[1]))
    if kind == FOREIGN:
        _, now, reservation_id = answer
        return Foreign(int(now), reservation_id.decode())
    return NoBudget()
