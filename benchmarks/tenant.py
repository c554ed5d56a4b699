"""The tenant that is measured: an API key, three budgets, and what a reserve of it looks like."""

from __future__ import annotations

import base64
import os

import orjson
from redis import Redis

from cycles_server.auth.records import read_key, read_tenant
from cycles_server.governance.provisioning import (
    create_api_key,
    create_budget,
    create_tenant,
    find_api_key,
)
from cycles_server.store.keys import Keys
from cycles_server.store.layout import new_id
from cycles_server.store.link import Argument

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
        secret: its key's; without one, calls are made as the operator makes them.

    Raises:
        LookupError: there is no such tenant, or the secret is not its key's.
    """

    def __init__(self, client: Redis, keys: Keys, name: str, secret: str = "") -> None:
        self.name = name
        self.secret = secret
        self.names = names = keys.tenant(name)
        tenant_record = client.get(names.record)
        if tenant_record is None:
            raise LookupError(f"there is no tenant {name}")
        key_name, key_record, expires = names.record, b"", ""  # as for the operator
        if secret:
            key_record = find_api_key(client, keys, secret) or b""
            key = read_key(key_record)
            if key is None:
                raise LookupError(f"tenant {name} has no such key")
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


def provision(client: Redis, keys: Keys, name: str, *, with_key: bool = True) -> Tenant:
    """Make a tenant, its key and its three budgets."""
    create_tenant(client, keys, name)
    secret = create_api_key(client, keys, name) if with_key else ""
    for scope in scopes_of(name):
        create_budget(client, keys, name, scope, UNIT, ALLOCATED)
    return Tenant(client, keys, name, secret)
