"""Accounts: on whose budgets a call works, and what its script must find unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from cycles_server.auth.principal import Principal
from cycles_server.auth.records import TenantPolicy, read_tenant
from cycles_server.ledger.scripts.head import HeadArguments, HeadKeys
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Account:
    """On whose account a script works, and what it must find unchanged.

    ``key_record`` is empty when the operator acts for the tenant.
    """

    names: TenantKeys
    key: str
    key_record: bytes
    tenant_record: bytes
    expires_at: str
    policy: TenantPolicy

    @property
    def by_operator(self) -> bool:
        """Whether no caller's key stands behind it."""
        return not self.key_record

    @property
    def keys(self) -> HeadKeys:
        return HeadKeys(key_record=self.key, tenant_record=self.names.record)

    @property
    def arguments(self) -> HeadArguments:
        return HeadArguments(
            verified_key=self.key_record,
            verified_tenant=self.tenant_record,
            key_valid_until=self.expires_at,
            tenant=self.names.tenant,
            tenant_guard=self.policy.guard,
        )


class Accounts:
    """Finds the account of a call. Every method that asks the store raises StoreError when it
    fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_caller(self, principal: Principal) -> Account:
        """The caller's own account."""
        if principal.tenant is None:
            raise RuntimeError("the operator has no account of its own")
        names = self._store.keys.tenant(principal.tenant)
        return Account(
            names=names,
            key=names.api_key(principal.key_id),
            key_record=principal.key_record,
            tenant_record=principal.tenant_record,
            expires_at=principal.expires_at,
            policy=principal.policy,
        )

    async def for_operator(self, tenant: str) -> Account:
        """A tenant's account, for the operator to act on."""
        names = self._store.keys.tenant(tenant)
        record = await self._store.read("GET", names.record) or b""
        return Account(
            names=names,
            key=names.record,
            key_record=b"",
            tenant_record=record,
            expires_at="",
            policy=read_tenant(record),
        )

    async def owner(self, reservation_id: str) -> tuple[str, str] | None:
        """The tenant and scope path of a reservation, whoever owns it."""
        for bucket in self._store.keys.buckets_of_id(reservation_id):
            tenant, scope_path = await self._store.read(
                "HMGET", bucket.reservation(reservation_id), "tenant", "scope_path"
            )
            if tenant is not None:
                return tenant.decode(), (scope_path or b"").decode()
        return None
