"""Lua scripts: loaded from the package, preludes pulled in by name, hash computed once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# `-- @include name` on a line of its own: lua/lib/name.lua stands there. Inside a block, only
# those who come there pay for it.
_INCLUDE = re.compile(r"^ *-- @include (\w+)$", re.MULTILINE)
_SHEBANG = "#!lua"


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic script as Redis gets it."""

    name: str
    source: bytes
    sha: bytes


@cache
def load_script(name: str) -> Script:
    """Read ``lua/{name}.lua`` with its preludes.

    Raises:
        FileNotFoundError: no such script, or a prelude that does not exist.
        ValueError: the script does not start with ``#!lua``.
    """
    folder = files("cycles_server.lua")
    text = folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    if not text.startswith(_SHEBANG):
        raise ValueError(f"lua/{name}.lua must start with {_SHEBANG}")

    def prelude(match: re.Match[str]) -> str:
        return folder.joinpath("lib", f"{match[1]}.lua").read_text(encoding="utf-8").rstrip()

    source = _INCLUDE.sub(prelude, text).encode()
    # Redis wants the hash in hexadecimal; it names the script and protects nothing.
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
