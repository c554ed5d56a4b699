"""Rulings: which of a tenant's policies governs a call.

Of the policies that match one of the call's scopes and are in effect, the one of the highest
priority; of equals the one that is more precise (``governance/patterns.py``), then the one whose
id is the smaller text. It governs alone: what it says nothing of is not taken from another.

A worker remembers a tenant's policies, and nothing is trusted for a time: a script that goes by a
ruling compares what the ruling was made of with what is stored (``lua/lib/rulings.lua``), whoever
wrote it. That is how many policies the tenant has, and the records of those whose pattern matches;
all else cannot change a ruling, since the pattern of a policy never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cycles_server.auth.records import TenantPolicy
from cycles_server.governance.patterns import matching
from cycles_server.ledger.policies import StoredPolicy, read_policy
from cycles_server.scopes import Scopes, lower_case, tenant_in
from cycles_server.store.clock import epoch_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

_REMEMBERED_TENANTS = 10_000
_REMEMBERED_PATHS = 1_000
_AT_ONCE = 500
"""Records in one read."""


@dataclass(frozen=True, slots=True, eq=False)
class Ruling:
    """What governs a call, and what its script must find unchanged.

    Attributes:
        policies: what it was made of.
        known: how many policies the tenant had.
        governing: None where no policy does.
        keys, records: of the policies that could govern, a record being empty where there is none.
        counter: the key that counts reserves, where the governing policy limits them.
        until_ms: from when on another may govern, epoch ms as text; empty for never.
        damaged: the key of a policy that could govern and cannot be understood, if there is one.
    """

    policies: PolicySet
    known: int
    governing: StoredPolicy | None = None
    keys: Sequence[str] = ()
    records: Sequence[bytes] = ()
    counter: Sequence[str] = ()
    until_ms: str = ""
    damaged: str = ""

    @property
    def overage_policy(self) -> str:
        """The governing policy's own, or empty."""
        return self.governing.overage_policy if self.governing else ""

    @property
    def caps(self) -> bytes:
        """The governing policy's as JSON, ``{}`` where it says that there are none, or empty."""
        return self.governing.caps if self.governing else b""

    @property
    def reserves_per_minute(self) -> str:
        """The governing policy's limit, or empty."""
        limit = self.governing.reserves_per_minute if self.governing else None
        return "" if limit is None else str(limit)

    def over(self, tenant: TenantPolicy) -> TenantPolicy:
        """The tenant's own terms, with the governing policy's in the place of those it names."""
        policy = self.governing
        if policy is None:
            return tenant
        return replace(
            tenant,
            default_ttl_ms=_either(policy.default_ttl_ms, tenant.default_ttl_ms),
            max_ttl_ms=_either(policy.max_ttl_ms, tenant.max_ttl_ms),
            max_extensions=_either(policy.max_extensions, tenant.max_extensions),
        )


@dataclass(slots=True, eq=False)
class PolicySet:
    """A tenant's policies at one moment.

    Attributes:
        by_key: all of them.
        at_ms: that moment, by the store's clock.
        outdated: whether a script has found them changed, or another in effect.
    """

    names: TenantKeys
    by_key: dict[str, StoredPolicy]
    at_ms: int
    outdated: bool = False
    _by_pattern: dict[str | None, list[StoredPolicy]] = field(default_factory=dict)
    _rulings: dict[str, Ruling] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for policy in self.by_key.values():
            self._by_pattern.setdefault(policy.pattern, []).append(policy)

    def ruling(self, scopes: Scopes) -> Ruling:
        """The ruling on a subject's scopes."""
        path = scopes.path if self._by_pattern else ""
        found = self._rulings.get(path)
        if found is None:
            if len(self._rulings) >= _REMEMBERED_PATHS:
                self._rulings.clear()
            found = self._rulings[path] = self._made(scopes.all) if path else Ruling(self, 0)
        return found

    def _made(self, scopes: Sequence[str]) -> Ruling:
        root = f"tenant:{lower_case(self.names.tenant)}"
        if not tenant_in(scopes[0]):
            # A subject that leaves its tenant out does not get out of the tenant's policies.
            scopes = [root, *(f"{root}/{scope}" for scope in scopes)]
        candidates = [*self._by_pattern.get(None, ())]
        matched = matching(scopes)
        for pattern in matched:
            candidates += self._by_pattern.get(pattern, ())
        in_effect = [policy for policy in candidates if policy.in_effect(self.at_ms)]
        governing = min(in_effect, key=lambda policy: policy.rank, default=None)
        counter = []
        if governing and governing.pattern and governing.reserves_per_minute is not None:
            policy_id = governing.key.removeprefix(self.names.policy_prefix)
            counter = [self.names.policy_rate(policy_id, matched[governing.pattern])]
        turns = [
            turn
            for policy in candidates
            if policy.active
            for turn in (policy.since_ms, policy.until_ms)
            if turn is not None and turn > self.at_ms
        ]
        return Ruling(
            self,
            len(self.by_key),
            governing=governing,
            keys=[policy.key for policy in candidates],
            records=[policy.record for policy in candidates],
            counter=counter,
            until_ms=str(min(turns)) if turns else "",
            damaged=next((policy.key for policy in candidates if policy.damaged), ""),
        )


class Rulings:
    """Knows the policies of tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sets: dict[str, PolicySet] = {}
        self._reading: dict[str, asyncio.Task[PolicySet]] = {}

    def known(self, names: TenantKeys, scopes: Scopes) -> Ruling | None:
        """The ruling on a call's scopes, to be confirmed by its script; None if the tenant's
        policies must be read first."""
        found = self._sets.get(names.tenant)
        if found is None or found.outdated:
            return None
        ruling = found.ruling(scopes)
        return None if ruling.damaged else ruling

    async def read(self, names: TenantKeys, scopes: Scopes) -> Ruling:
        """The ruling on a call's scopes, by the policies as they are now.

        Raises:
            StoreError: they could not be read; StoreCorrupt: one that may govern is damaged, so
                that nobody can tell what holds.
        """
        task = self._reading.get(names.tenant)
        if task is None:
            task = self._reading[names.tenant] = asyncio.create_task(self._read(names))
            task.add_done_callback(lambda _: self._reading.pop(names.tenant))
        # A caller that hangs up must not take the answer away from the others.
        ruling = (await asyncio.shield(task)).ruling(scopes)
        if ruling.damaged:
            raise StoreCorrupt(f"{ruling.damaged} is no policy that can be read")
        return ruling

    async def _read(self, names: TenantKeys) -> PolicySet:
        read = self._store.read
        ids, clock = await asyncio.gather(read("SMEMBERS", names.policies), read("TIME"))
        keys = sorted(names.policy(one.decode(errors="replace")) for one in ids)
        parts = [keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]
        records = [
            record or b""
            for part in await asyncio.gather(*(read("MGET", *part) for part in parts))
            for record in part
        ]
        before = self._sets.get(names.tenant)
        if before is None and len(self._sets) >= _REMEMBERED_TENANTS:
            self._sets.clear()
        known = before.by_key if before else {}
        policies = {}
        for key, record in zip(keys, records, strict=True):
            policy = known.get(key)
            if policy is None or policy.record != record:
                policy = read_policy(key, record)
            policies[key] = policy
        found = PolicySet(names, policies, epoch_ms(clock))
        self._sets[names.tenant] = found
        return found


def _either(own: int | None, other: int) -> int:
    return other if own is None else own
