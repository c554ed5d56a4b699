"""A secret kept in a file, so that the next run can use the same key."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from cycles_server.governance.api_keys import create_api_key, in_force
from cycles_server.store.store import Store

ADMIN_KEY_FILE = "admin.key"
"""The operator's key in the data directory of an ``up``."""


def kept_admin_key(path: Path) -> str:
    """The operator's key in the file; a new one where there is none yet.

    Raises:
        OSError: the file cannot be read or written.
    """
    kept = read_kept(path)
    if kept:
        return kept
    made = secrets.token_hex(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_kept(path, made)
    return made


async def kept_key(store: Store, tenant_id: str, path: Path) -> tuple[str, bool]:
    """The secret in the file, or a new key's if that one is not in force in this store; and
    whether it is new.

    Raises:
        OSError: the file cannot be read or written.
        StoreError: the store failed.
    """
    kept = await asyncio.to_thread(read_kept, path)
    if kept and await in_force(store, tenant_id, kept):
        return kept, False
    secret = await create_api_key(store, tenant_id)
    await asyncio.to_thread(write_kept, path, secret)
    return secret, True


def read_kept(path: Path) -> str:
    """The secret in the file, empty if there is none. Raises: OSError."""
    return path.read_text().strip() if path.exists() else ""


def write_kept(path: Path, secret: str) -> None:
    """Keep a secret in the file, for this user alone. Raises: OSError."""
    path.unlink(missing_ok=True)  # one with other permissions would keep them
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
