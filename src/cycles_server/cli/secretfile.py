"""Secrets kept in files, each for the user alone who runs the command."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

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


def read_kept(path: Path) -> str:
    """The secret in the file, empty if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    return path.read_text(errors="replace").strip() if path.exists() else ""


def write_kept(path: Path, secret: str) -> None:
    """Keep a secret in the file.

    Raises:
        OSError: the file cannot be written.
    """
    path.unlink(missing_ok=True)  # one with other permissions would keep them
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
