"""A secret kept in a file, so that the next run can use the same key."""

from __future__ import annotations

import os
from pathlib import Path

from redis import Redis

from cycles_server.governance.provisioning import create_api_key, in_force
from cycles_server.store.keys import Keys


def kept_key(client: Redis, keys: Keys, tenant_id: str, path: Path) -> tuple[str, bool]:
    """The secret in the file, or a new key's if that one is not in force in this store; and
    whether it is new.

    Raises:
        OSError: the file cannot be read or written.
    """
    if path.exists():
        secret = path.read_text().strip()
        if secret and in_force(client, keys, tenant_id, secret):
            return secret, False
    secret = create_api_key(client, keys, tenant_id)
    path.unlink(missing_ok=True)  # one with other permissions would keep them
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    return secret, True
