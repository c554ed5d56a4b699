"""The tenant that is measured: an API key, three budgets, and what a reserve of it looks like."""

from __future__ import annotations

import asyncio
import base64
import os

import orjson

from cycles_server.auth.records import read_key, read_tenant
from cycles_server.governance.api_keys import create_api_key, find_api_key
from cycles_server.governance.budgets import create_budget
from cycles_server.governance.tenants import create_tenant
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
        # The arguments of lua/reserve.lua that are the same in every call.
        self._credential_keys = [key_name, names.record]
        self._budget_keys = [names.budget(scope, UNIT) for scope in scopes]
        self._credential: list[Argument] = [
            *(key_record, tenant_record, expires, name, policy.guard, names.reservation_prefix)
        ]
        self._policy: list[Argument] = ["", policy.overage_policy, policy.max_extensions]
        self._request: list[Argument] = [orjson.dumps(subject), orjson.dumps(_ACTION), b""]
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
        keys = [
            *self._credential_keys,
            names.idempotency("reserve", idempotency_key),
            names.reservation(reservation_id),
            *(names.ttl, names.index),
            *self._budget_keys,
        ]
        request_hash = base64.b64encode(digest or os.urandom(32)).rstrip(b"=")
        return keys, [
            *self._credential,
            *(request_hash, reservation_id, str(_HELD), UNIT, lease_ms, grace_ms),
            *self._policy,
            *self._request,
            *(self._scopes_json, idempotency_key),
            *self._scopes,
        ]


async def find_tenant(store: Store, name: str, secret: str = "") -> Tenant:
    """A tenant that :func:`provision` has made.

    Raises:
        LookupError: there is no such tenant, or no such key.
    """
    names = store.keys.tenant(name)
    record = await store.read("GET", names.record)
    key_record = await find_api_key(store, secret) if secret else b""
    if record is None or key_record is None:
        raise LookupError(f"there is no tenant {name} with this key")
    return Tenant(names, record, secret, key_record)


async def provision(store: Store, name: str, *, with_key: bool = True) -> Tenant:
    """Make a tenant, its key and its three budgets."""
    await create_tenant(store, name)
    secret = await create_api_key(store, name) if with_key else ""
    await asyncio.gather(
        *(create_budget(store, name, scope, UNIT, ALLOCATED) for scope in scopes_of(name))
    )
    return await find_tenant(store, name, secret)
