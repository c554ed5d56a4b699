"""How a secret leads to its key's record."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.store import Store

_SECRET_BYTES = 72
"""bcrypt looks at no more; a longer secret cannot be one of ours."""


class Found(NamedTuple):
    """Where a secret's beginning leads.

    Attributes:
        tenant: whose key it is by the look-up entry; None in a layout whose entries do not say.
        record: as it is stored, empty where there is none. Whether the secret is this key's own,
            and the key in force, is yet to be seen.
    """

    key_id: str
    tenant: str | None
    record: bytes


async def look_up(store: Store, secret: str) -> Found | None:
    """Follow a secret's beginning; None if it leads nowhere.

    Raises:
        StoreError: the store failed; ``StoreCorrupt`` where something else stands in a record's
            place.
    """
    if not secret or len(secret.encode()) > _SECRET_BYTES:
        return None
    keys = store.keys
    entry = await store.read("GET", keys.api_key_lookup(secret))
    if not entry:
        return None
    key_id, tenant = keys.layout.read_lookup(entry.decode(errors="replace"))
    # Where the entry does not name the tenant, the record's name needs none.
    record = await store.read("GET", keys.tenant(tenant or "").api_key(key_id))
    return Found(key_id, tenant, record or b"")
