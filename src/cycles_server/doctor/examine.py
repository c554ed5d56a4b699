"""A check of the store: its settings, the whole ledger in it, and the records of governance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from cycles_server.doctor.api_keys import ApiKeys
from cycles_server.doctor.bookkeeping import Books
from cycles_server.doctor.indexes import AuditIndexes, Twins
from cycles_server.doctor.policies import Policies
from cycles_server.doctor.tenants import Tenants
from cycles_server.doctor.walking import Progress, Walk
from cycles_server.store.errors import StoreError
from cycles_server.store.findings import ADVICE, Finding
from cycles_server.store.fitness import HIDDEN, is_hidden, judge, read_info, server_version
from cycles_server.store.store import Store

LISTPACK_VALUE = 256
"""``hash-max-listpack-value`` with which a live reservation takes the least memory."""
_COUNTED = ("tenants", "keys", "policies")
"""Stages whose records are counted in the report, besides those of the books."""


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


async def examine(
    store: Store,
    progress: Progress = lambda stage, done: None,
    *,
    audit_retentions: Sequence[int] = (),
) -> Report:
    """Check everything.

    Args:
        progress: told how far each stage is.
        audit_retentions: for how many days the servers keep audit entries of each kind; 0 for
            ever, and none at all, too.

    Raises:
        StoreError: the store failed.
    """
    report = Report()
    report.findings.extend([finding async for finding in _check_store(store, report.store)])
    for bucket in store.keys.buckets():
        books = Books(store, bucket, progress)
        report.findings.extend([finding async for finding in books.check()])
        for kind, number in books.counted.items():
            report.counted[kind] = report.counted.get(kind, 0) + number
    walk = Walk(store, progress)
    tenants = Tenants(store, walk)
    for part in (
        tenants,  # first: it finds out which are closed
        ApiKeys(store, walk, tenants),
        Policies(store, walk),
        AuditIndexes(store, walk, audit_retentions),
        Twins(store, walk),
    ):
        report.findings.extend([finding async for finding in part.check()])
    report.counted |= {kind: walk.done[kind] for kind in _COUNTED}
    report.findings = list(dict.fromkeys(report.findings))  # a scan may meet a key twice
    return report


async def _check_store(store: Store, facts: dict[str, str]) -> AsyncIterator[Finding]:
    """The settings of the store; fills ``facts``."""
    try:
        info = read_info(await store.read_bulk("INFO"))
    except StoreError as error:
        if not is_hidden(error):
            raise
        yield HIDDEN
        return
    facts["server"] = " ".join(server_version(info))
    facts["role"] = str(info.get("role"))
    facts["maxmemory-policy"] = str(info.get("maxmemory_policy"))
    facts["appendonly"] = "yes" if info.get("aof_enabled") == "1" else "no"
    facts["memory"] = str(info.get("used_memory_human"))
    for finding in judge(info):
        yield finding
    async for finding in _check_config(store, facts):
        yield finding


async def _check_config(store: Store, facts: dict[str, str]) -> AsyncIterator[Finding]:
    try:
        fsync = await _setting(store, "appendfsync")
        listpack = await _setting(store, "hash-max-listpack-value")
    except StoreError as error:
        if not is_hidden(error):
            raise
        return  # hosted stores often hide it; it decides speed and size only
    if facts["appendonly"] == "yes":
        facts["appendfsync"] = fsync
    facts["hash-max-listpack-value"] = listpack
    if listpack.isdecimal() and int(listpack) < LISTPACK_VALUE:
        yield Finding(
            ADVICE,
            "MEMORY",
            "hash-max-listpack-value",
            f"{listpack}: with {LISTPACK_VALUE} a live reservation takes two thirds of the memory",
        )


async def _setting(store: Store, name: str) -> str:
    """A setting of the store; ``None`` where it does not have it."""
    told: list[bytes] = await store.read_bulk("CONFIG", "GET", name)
    return told[1].decode() if told else "None"
