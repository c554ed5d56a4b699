"""Policies: their records, and the set of each tenant's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from cycles_server.doctor.observe import observe
from cycles_server.doctor.tenants import record_in
from cycles_server.doctor.walking import Judge, Walk, key_pages
from cycles_server.governance.patterns import own_pattern
from cycles_server.refusal import Refusal
from cycles_server.scopes import lower_case, tenant_in
from cycles_server.store.findings import ERROR, WARNING, Finding
from cycles_server.store.keys import BucketKeys
from cycles_server.store.store import Store

_STATUSES = ("ACTIVE", "DISABLED")


class Policies:
    """The check of all policies."""

    def __init__(self, store: Store, walk: Walk) -> None:
        self._store = store
        self._walk = walk

    async def check(self) -> AsyncIterator[Finding]:
        """Read every record and set; yields what is wrong.

        Raises:
            StoreError: the store failed.
        """
        walk = self._walk
        for bucket in self._store.keys.buckets():
            pattern = bucket.policy_pattern()
            async for finding in walk.keys("policies", pattern, self._record_in(bucket)):
                yield finding
            async for sets in key_pages(self._store, bucket.policies_pattern()):
                for name in sets:
                    judge = self._named_in(bucket, name)
                    async for finding in walk.members("lists of policies", name, judge):
                        yield finding

    def _record_in(self, bucket: BucketKeys) -> Judge:
        async def judge(key: str) -> list[Finding]:
            seen = await observe(self._store, key)
            if not seen.exists:
                return []
            policy_id, record = bucket.policy_id(key), record_in(seen)
            problem = record if isinstance(record, str) else _problem(record, policy_id)
            if problem or isinstance(record, str):
                return [Finding(ERROR, "MALFORMED_POLICY", key, problem)]
            owner = _owner(record)
            if not owner:
                # Other servers' records name it by the pattern alone, and one may name none.
                why = "does not tell whose it is: it cannot be updated here"
                return [Finding(WARNING, "POLICY_OWNER", key, why)]
            members = bucket.policies_of(owner)
            listed = await observe(self._store, key, name=policy_id, indexes=(members,))
            found = []
            if listed.places[0] is None:
                why = f"not in {members}: it is neither listed nor in force"
                found.append(Finding(WARNING, "POLICY_UNLISTED", key, why))
            try:
                own_pattern(
                    owner, lower_case(record["scope_pattern"])
                )  # others' may be in any case
            except Refusal as refused:
                why = f"matches nothing: {refused.message}"
                found.append(Finding(WARNING, "POLICY_PATTERN", key, why))
            return found

        return judge

    def _named_in(self, bucket: BucketKeys, members: str) -> Judge:
        async def judge(policy_id: str) -> list[Finding]:
            key = bucket.policy(policy_id)
            seen = await observe(self._store, key, name=policy_id, indexes=(members,))
            if seen.exists or seen.places[0] is None:
                return []
            why = f"names {policy_id}: no such record"
            return [Finding(WARNING, "POLICY_MISSING", members, why)]

        return judge


def _owner(record: dict[str, Any]) -> str:
    named = record.get("tenant_id")
    return named if isinstance(named, str) else tenant_in(lower_case(record["scope_pattern"]))


def _problem(record: dict[str, Any], policy_id: str) -> str:
    if record.get("policy_id") != policy_id:
        return f"policy_id is {record.get('policy_id')!r}"
    if record.get("status") not in _STATUSES:
        return f"status is {record.get('status')!r}"
    if not isinstance(record.get("scope_pattern"), str):
        return f"scope_pattern is {record.get('scope_pattern')!r}"
    return ""
