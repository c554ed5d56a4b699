"""An API key kept in a file, so that the next run can use the same one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cycles_server.cli.provision import provide_key
from cycles_server.cli.secretfile import read_kept, write_kept
from cycles_server.governance.api_keys import in_force
from cycles_server.store.store import Store


async def kept_key(store: Store, tenant_id: str, path: Path) -> tuple[str, bool]:
    """The secret in the file, or a new key's if that one is not in force in this store; and
    whether it is new.

    Raises:
        OSError: the file cannot be read or written.
        Refusal: the tenant may have no new key.
        StoreError: the store failed.
    """
    kept = await asyncio.to_thread(read_kept, path)
    if kept and await in_force(store, tenant_id, kept):
        return kept, False
    secret = await provide_key(store, tenant_id)
    await asyncio.to_thread(write_kept, path, secret)
    return secret, True
