"""The tenant that is measured: an API key, three budgets, and what a reserve of it looks like."""

from __future__ import annotations

import asyncio
import base64
import os

import orjson

from cycles_server.auth.lookup import look_up
from cycles_server.auth.records import read_key, read_tenant
from cycles_server.cli.provision import provide_budget, provide_key, provide_tenant
from cycles_server.ledger.scripts import reserve
from cycles_server.ledger.scripts.head import HeadArguments, HeadKeys
from cycles_server.store.keys import TenantKeys
from cycles_server.store.layout import new_id
from cycles_server.store.link import Argument
from cycles_server.store.store import Store

UNIT = "TOKENS"
ALLOCATED = 900_000_000_000_000
"""Fifteen digits: plenty, and still what the scripts calculate with plain numbers."""
LEASE_MS = 3_600_000
"""Long enough that nothing lapses while it is measured."""
GRACE_MS = 5000

_HELD = 100
_ACTION = {"kind": "llm.completion", "name": "openai:gpt-4o"}


def scopes_of(name: str) -> list[str]:
    """The three scopes of a tenant's subject, from the top down."""
    tenant = f"tenant:{name}"
    workspace = f"{tenant}/workspace:production"
    return [tenant, workspace, f"{workspace}/agent:summarizer"]


class Tenant:
    """A tenant as :func:`provision` has made it.

    Args:
        tenant_record: the tenant's record.
        secret: its key's; without one, calls are made as the operator makes them.
        key_record: its key's record, if there is a secret.
    """

    def __init__(
        self, names: TenantKeys, tenant_record: bytes, secret: str = "", key_record: bytes = b""
    ) -> None:
        self.name = name = names.tenant
        self.secret = secret
        self.names = names
        key_name, expires = names.record, ""  # as for the operator
        key = read_key(key_record)
        if key is not None:
            key_name = names.api_key(key.key_id)
            expires = "" if key.expires_at_ms is None else str(key.expires_at_ms)
        policy = read_tenant(tenant_record)
        subject = {"tenant": name, "workspace": "production", "agent": "summarizer"}
        scopes = scopes_of(name)
        self._head_keys = HeadKeys(key_record=key_name, tenant_record=names.record)
        self._head_arguments = HeadArguments(
            verified_key=key_record,
            verified_tenant=tenant_record,
            key_valid_until=expires,
            tenant=name,
            tenant_guard=policy.guard,
        )
        self._policy = policy
        self._budget_keys = [names.budget(scope, UNIT) for scope in scopes]
        self._subject, self._action = orjson.dumps(subject), orjson.dumps(_ACTION)
        self._scopes_json = orjson.dumps(scopes)
        self._scopes = scopes

    def reserve_call(
        self,
        idempotency_key: str,
        *,
        digest: bytes = b"",
        reservation_id: str = "",
        lease_ms: int = LEASE_MS,
        grace_ms: int = GRACE_MS,
    ) -> tuple[list[str], list[Argument]]:
        """KEYS and ARGV of ``lua/reserve.lua``, as the server would send them.

        Args:
            digest: SHA-256 of the request; any 32 bytes will do where nothing is replayed.
        """
        reservation_id = reservation_id or new_id(self.name)
        names = self.names
        keys = reserve.Keys(
            idempotency_record=names.idempotency("reserve", idempotency_key),
            reservation=names.reservation(reservation_id),
            expiries=names.ttl,
            creations=names.index,
            policies=names.policies,
        )
        arguments = reserve.Arguments(
            reservation_prefix=names.reservation_prefix,
            request_hash=base64.b64encode(digest or os.urandom(32)).rstrip(b"="),
            reservation_id=reservation_id,
            estimate=str(_HELD),
            unit=UNIT,
            lease_ms=lease_ms,
            grace_ms=grace_ms,
            asked_policy="",
            default_policy=self._policy.overage_policy,
            max_extensions=self._policy.max_extensions,
            subject=self._subject,
            action=self._action,
            metadata=b"",
            scopes_json=self._scopes_json,
            idempotency_key=idempotency_key,
            policies_known=0,
            policy_count=0,
            policy_until="",
            policy_caps=b"",
            policy_limit="",
        )
        return (
            [*self._head_keys, *keys, *self._budget_keys],
            [*self._head_arguments, *arguments, *self._scopes],
        )


async def find_tenant(store: Store, name: str, secret: str = "") -> Tenant:
    """A tenant that :func:`provision` has made.

    Raises:
        LookupError: there is no such tenant, or no such key.
    """
    names = store.keys.tenant(name)
    record = await store.read("GET", names.record)
    found = await look_up(store, secret) if secret else None
    if record is None or (secret and not (found and found.record)):
        raise LookupError(f"there is no tenant {name} with this key")
    return Tenant(names, record, secret, found.record if found else b"")


async def provision(store: Store, name: str, *, with_key: bool = True) -> Tenant:
    """Make a tenant, its key and its three budgets."""
    await provide_tenant(store, name)
    secret = await provide_key(store, name) if with_key else ""
    await asyncio.gather(
        *(provide_budget(store, name, scope, UNIT, ALLOCATED) for scope in scopes_of(name))
    )
    return await find_tenant(store, name, secret)
