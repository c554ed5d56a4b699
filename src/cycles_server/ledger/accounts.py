"""Accounts: on whose budgets a call works, and what its script must find unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from cycles_server.auth.principal import Principal
from cycles_server.auth.records import TenantPolicy, read_tenant
from cycles_server.ledger.scripts.head import HeadArguments, HeadKeys
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Account:
    """On whose account a script works, and what it must find unchanged.

    Attributes:
        names: of the tenant's keys in the store.
        policy: the tenant's own, by the record that must be unchanged.
        keys, arguments: the head of each call of a script.
    """

    names: TenantKeys
    policy: TenantPolicy
    keys: HeadKeys
    arguments: HeadArguments

    @property
    def by_operator(self) -> bool:
        """Whether no caller's key stands behind it."""
        return not self.arguments.verified_key


class Accounts:
    """Finds the account of a call. Every method that asks the store raises StoreError when it
    fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of_callers: WeakKeyDictionary[Principal, Account] = WeakKeyDictionary()

    def of_caller(self, principal: Principal) -> Account:
        """The caller's own account."""
        account = self._of_callers.get(principal)
        if account is None:
            if principal.tenant is None:
                raise RuntimeError("the operator has no account of its own")
            names = self._store.keys.tenant(principal.tenant)
            account = _account(
                names,
                principal.policy,
                key=names.api_key(principal.key_id),
                key_record=principal.key_record,
                tenant_record=principal.tenant_record,
                valid_until=principal.expires_at,
            )
            self._of_callers[principal] = account
        return account

    async def for_operator(self, tenant: str) -> Account:
        """A tenant's account, for the operator to act on."""
        names = self._store.keys.tenant(tenant)
        record = await self._store.read("GET", names.record) or b""
        # No key has to be unchanged; the script is named a record all the same.
        return _account(names, read_tenant(record), key=names.record, tenant_record=record)

    async def owner(self, reservation_id: str) -> tuple[str, str] | None:
        """The tenant and scope path of a reservation, whoever owns it."""
        for bucket in self._store.keys.buckets_of_id(reservation_id):
            tenant, scope_path = await self._store.read(
                "HMGET", bucket.reservation(reservation_id), "tenant", "scope_path"
            )
            if tenant is not None:
                return tenant.decode(), (scope_path or b"").decode()
        return None


def _account(
    names: TenantKeys,
    policy: TenantPolicy,
    *,
    key: str,
    tenant_record: bytes,
    key_record: bytes = b"",
    valid_until: str = "",
) -> Account:
    return Account(
        names,
        policy,
        HeadKeys(key_record=key, tenant_record=names.record),
        HeadArguments(
            verified_key=key_record,
            verified_tenant=tenant_record,
            key_valid_until=valid_until,
            tenant=names.tenant,
            tenant_guard=policy.guard,
        ),
    )
