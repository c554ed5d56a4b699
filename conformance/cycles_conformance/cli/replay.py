"""The command line that runs a property check again as it was."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

_URLS = {"url": "CYCLES_URL", "admin_url": "CYCLES_ADMIN_URL", "redis_url": "CYCLES_REDIS_URL"}
_PATHS = ("spec", "admin_spec", "fixtures")
_SECRETS = {
    "admin_key": "CYCLES_ADMIN_KEY",
    # It may well begin with a password.
    "provision_command": "CYCLES_PROVISION_COMMAND",
}


def replay_line(options: Mapping[str, Any], check_id: str, seed: int) -> str:
    """For a POSIX shell. ``options`` are those that say where the server is and how tenants come
    into being. A report is made to be published: what may hold a secret is read from the
    environment."""
    words = ["cycles-conformance run"]
    for name, variable in _URLS.items():
        if url := options[name]:
            secret = "@" in url or "?" in url
            words.append(f"{_option(name)} " + (f'"${variable}"' if secret else shlex.quote(url)))
    words += [f'{_option(name)} "${at}"' for name, at in _SECRETS.items() if options[name]]
    words += [
        f"{_option(name)} {shlex.quote(str(options[name]))}" for name in _PATHS if options[name]
    ]
    words.append(f"--timeout {options['timeout']:g}")
    words += ["--only", shlex.quote(check_id), f"--seed {seed}"]
    return " ".join(words)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
