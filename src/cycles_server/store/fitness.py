"""Whether a store is fit for money, by what it says about itself (INFO).

The probe, the start of a server and the doctor all judge by these findings. INFO rather than
CONFIG, because hosted stores often hide the latter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cycles_server.store.errors import StoreError, StoreFault, StoreRefused
from cycles_server.store.findings import ADVICE, ERROR, WARNING, Finding

OLDEST_MAJOR = 7
"""The first Redis whose scripts say in their first line what they are."""

VERSION, ROLE, EVICTION = "VERSION", "ROLE", "EVICTION"
PERSISTENCE, UNCHECKED = "PERSISTENCE", "UNCHECKED"
"""Codes of the findings."""

HIDDEN = Finding(
    ADVICE,
    UNCHECKED,
    "INFO",
    "not permitted: role, maxmemory-policy and persistence are unchecked",
)
"""What there is to say of a store that does not tell about itself."""


def read_info(reply: bytes) -> dict[str, str]:
    """The facts in a reply to ``INFO``, by name."""
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def server_version(info: Mapping[str, str]) -> tuple[str, str]:
    """``Valkey`` or ``Redis``, and its own version."""
    valkey = info.get("valkey_version")
    return ("Valkey", valkey) if valkey else ("Redis", info.get("redis_version", "0"))


def judge(info: Mapping[str, str]) -> Iterator[Finding]:
    """What makes a store unfit (errors), and what an operator should know of it."""
    _, version = server_version(info)
    if int(version.partition(".")[0]) < OLDEST_MAJOR:
        yield Finding(ERROR, VERSION, "server", f"{version}, older than {OLDEST_MAJOR}")
    if info.get("role") != "master":
        yield Finding(ERROR, ROLE, "role", "a replica: the server cannot write here")
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        why = f"{policy}: a full store would drop money silently; set noeviction"
        yield Finding(ERROR, EVICTION, "maxmemory-policy", why)
    if info.get("aof_enabled") != "1":
        why = "no: what was written last is lost when the store dies; set yes"
        yield Finding(WARNING, PERSISTENCE, "appendonly", why)
    elif info.get("aof_last_write_status", "ok") != "ok":
        why = "yes, but the last write to the file failed"
        yield Finding(ERROR, PERSISTENCE, "appendonly", why)


def is_hidden(error: StoreError) -> bool:
    """Whether a store answers so to a command that it does not have, or does not permit."""
    return isinstance(error, StoreFault) or (
        isinstance(error, StoreRefused) and error.code == "NOPERM"
    )
