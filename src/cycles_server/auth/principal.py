"""The authenticated caller of an exchange."""

from __future__ import annotations

from dataclasses import dataclass, field

from cycles_server.auth.records import TenantPolicy


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Principal:
    """A tenant's API key, or the operator's key (then ``tenant`` is None).

    One object for as long as a key is remembered and its records are as they were, and equal to
    itself alone: what follows from it can be kept with it.

    Attributes:
        key_record, tenant_record: the records as they were read; a script that finds them
            changed answers *stale* instead of acting on old rights.
        expires_at: the key's last valid epoch ms as text, empty for never.
    """

    tenant: str | None
    key_id: str
    permissions: frozenset[str]
    scope_filter: tuple[str, ...] = ()
    policy: TenantPolicy = field(default_factory=TenantPolicy)
    key_record: bytes = b""
    tenant_record: bytes = b""
    expires_at: str = ""

    @property
    def is_admin(self) -> bool:
        return self.tenant is None


OPERATOR = Principal(tenant=None, key_id="admin", permissions=frozenset())
"""Whoever has the operator's key, or works on the store itself."""
