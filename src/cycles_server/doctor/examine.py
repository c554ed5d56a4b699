"""A check of the store: its settings, and the whole ledger in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cycles_server.doctor.bookkeeping import ADVICE, ERROR, WARNING, Books, Finding, Progress
from cycles_server.embedded.store import OLDEST_MAJOR
from cycles_server.store.keys import Keys

LISTPACK_VALUE = 256
"""``hash-max-listpack-value`` with which a live reservation takes the least memory."""


@dataclass(slots=True)
class Report:
    """What a check found.

    Attributes:
        store: facts about the store, by name.
        counted: how many records were looked at, by kind.
        findings: what is not as it should be.
    """

    store: dict[str, str] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Nothing worse than advice."""
        return all(finding.level == ADVICE for finding in self.findings)


def examine(client: Redis, keys: Keys, progress: Progress = lambda stage, done: None) -> Report:
    """Check everything.

    Args:
        client: decodes responses.
        progress: told how far each stage is.

    Raises:
        RedisError: the store went away.
    """
    report = Report()
    report.findings.extend(_check_store(client, report.store))
    for bucket in keys.buckets():
        books = Books(client, keys, bucket, progress)
        report.findings.extend(books.check())
        for kind, number in books.counted.items():
            report.counted[kind] = report.counted.get(kind, 0) + number
    return report


def _check_store(client: Redis, facts: dict[str, str]) -> Iterator[Finding]:
    """The settings of the store; fills ``facts``."""
    try:
        info: dict[str, Any] = client.info()
    except ResponseError as error:
        yield Finding(ADVICE, "UNCHECKED", "INFO", f"the store does not tell: {error}")
        return
    valkey = info.get("valkey_version")
    version = str(valkey or info.get("redis_version", "0"))
    facts["server"] = f"{'Valkey' if valkey else 'Redis'} {version}"
    facts["role"] = str(info.get("role"))
    facts["maxmemory-policy"] = str(info.get("maxmemory_policy"))
    facts["appendonly"] = "yes" if info.get("aof_enabled") else "no"
    facts["memory"] = str(info.get("used_memory_human"))
    if int(version.partition(".")[0]) < OLDEST_MAJOR:
        yield Finding(ERROR, "VERSION", "server", f"{version} is older than {OLDEST_MAJOR}")
    if facts["role"] != "master":
        yield Finding(ERROR, "ROLE", "role", "a replica: the server cannot write here")
    if facts["maxmemory-policy"] != "noeviction":
        yield Finding(
            ERROR,
            "EVICTION",
            "maxmemory-policy",
            f"{facts['maxmemory-policy']}: a full store would drop money silently; set noeviction",
        )
    if not info.get("aof_enabled"):
        yield Finding(
            WARNING,
            "PERSISTENCE",
            "appendonly",
            "no: what was written last is lost when the store dies; set yes",
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(ERROR, "PERSISTENCE", "appendonly", "the last write to the file failed")
    yield from _check_config(client, facts)


def _check_config(client: Redis, facts: dict[str, str]) -> Iterator[Finding]:
    try:
        config: dict[Any, Any] = {
            **client.config_get("appendfsync"),
            **client.config_get("hash-max-listpack-value"),
        }
    except ResponseError:
        return  # hosted stores often hide it; it decides speed and size only
    if facts["appendonly"] == "yes":
        facts["appendfsync"] = str(config.get("appendfsync"))
    listpack = str(config.get("hash-max-listpack-value"))
    facts["hash-max-listpack-value"] = listpack
    if listpack.isdecimal() and int(listpack) < LISTPACK_VALUE:
        yield Finding(
            ADVICE,
            "MEMORY",
            "hash-max-listpack-value",
            f"{listpack}: with {LISTPACK_VALUE} a live reservation takes two thirds of the memory",
        )
