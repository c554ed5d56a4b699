"""API keys: their records, the set of each tenant's, and the entries that lead to them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from cycles_server.auth.records import KeyRecord, read_key
from cycles_server.doctor.observe import observe
from cycles_server.doctor.tenants import Tenants, record_in
from cycles_server.doctor.walking import Judge, Walk, key_pages
from cycles_server.governance.api_keys import ACTIVE, EXPIRED, REVOKED
from cycles_server.store.findings import ERROR, WARNING, Finding
from cycles_server.store.keys import API_KEY_PREFIX_LENGTH, BucketKeys
from cycles_server.store.store import Store

_STATUSES = (ACTIVE, REVOKED, EXPIRED)
_BCRYPT = re.compile(rb"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")


class ApiKeys:
    """The check of all API keys."""

    def __init__(self, store: Store, walk: Walk, tenants: Tenants) -> None:
        self._store = store
        self._walk = walk
        self._tenants = tenants

    async def check(self) -> AsyncIterator[Finding]:
        """Read every record, set and entry; yields what is wrong.

        Raises:
            StoreError: the store failed.
        """
        keys, walk = self._store.keys, self._walk
        for bucket in keys.buckets():
            async for finding in walk.keys(
                "keys",
                bucket.api_key_pattern(),
                self._record_in(bucket),
                but=keys.lookup_prefix,
            ):
                yield finding
            async for sets in key_pages(self._store, bucket.api_keys_pattern()):
                for name in sets:
                    judge = self._named_in(bucket, name)
                    async for finding in walk.members("lists of keys", name, judge):
                        yield finding
        async for finding in walk.keys("look-ups", f"{keys.lookup_prefix}*", self._judge_lookup):
            yield finding

    def _record_in(self, bucket: BucketKeys) -> Judge:
        async def judge(key: str) -> list[Finding]:
            key_id = bucket.api_key_id(key)
            seen = await observe(self._store, key)
            if not seen.exists:
                return []
            record = record_in(seen)
            if isinstance(record, str):
                return [Finding(ERROR, "MALFORMED_KEY", key, record)]
            known = read_key((seen.text or "").encode())
            if problem := _problem(record, known, key_id):
                return [Finding(ERROR, "MALFORMED_KEY", key, problem)]
            assert known is not None
            return await self._judge_key(bucket, key, record, known)

        return judge

    async def _judge_key(
        self, bucket: BucketKeys, key: str, record: dict[str, Any], known: KeyRecord
    ) -> list[Finding]:
        members = bucket.api_keys_of(known.tenant)
        listed, entry, has_tenant = await asyncio.gather(
            observe(self._store, key, name=known.key_id, indexes=(members,)),
            self._led_to(record["key_prefix"]),
            self._tenants.is_known(known.tenant),
        )
        found = []
        if not has_tenant:
            why = f"its tenant {known.tenant} has no record"
            found.append(Finding(WARNING, "KEY_TENANT", key, why))
        if known.active and self._tenants.has_ended(known.tenant):
            why = f"ACTIVE, and its tenant {known.tenant} is CLOSED"
            found.append(Finding(ERROR, "KEY_OPEN", key, why))
        if known.active and entry != key:
            lookup = self._store.keys.api_key_lookup(record["key_prefix"])
            why = f"{lookup} leads to {entry or 'nothing'}: its secret is not accepted"
            found.append(Finding(ERROR, "KEY_LOOKUP", key, why))
        if listed.places[0] is None:
            found.append(
                Finding(WARNING, "KEY_UNLISTED", key, f"not in {members}: lists do not show it")
            )
        return found

    def _named_in(self, bucket: BucketKeys, members: str) -> Judge:
        tenant = bucket.tenant_of_api_keys(members)

        async def judge(key_id: str) -> list[Finding]:
            key = bucket.api_key(key_id)
            seen = await observe(self._store, key, name=key_id, indexes=(members,))
            record = record_in(seen)
            if seen.places[0] is None or (seen.exists and isinstance(record, str)):
                return []  # gone from there meanwhile, or told of already
            if isinstance(record, dict) and record.get("tenant_id") == tenant:
                return []
            why = f"names {key_id}: no key of {tenant}"
            return [Finding(WARNING, "KEY_MISSING", members, why)]

        return judge

    async def _judge_lookup(self, entry: str) -> list[Finding]:
        prefix = entry.removeprefix(self._store.keys.lookup_prefix)
        key = await self._led_to(prefix)
        seen = await observe(self._store, key) if key else None
        if seen is None:
            # Gone meanwhile, or nothing that an entry can hold.
            there = await observe(self._store, entry)
            return [_leads_nowhere(entry, "nothing")] if there.exists else []
        record = record_in(seen)
        if isinstance(record, dict) and record.get("key_prefix") == prefix:
            return []
        return [_leads_nowhere(entry, f"{key}, which is no key that begins so")]

    async def _led_to(self, prefix: str) -> str:
        """The record that the beginning of a secret leads to; empty for none."""
        keys = self._store.keys
        seen = await observe(self._store, keys.api_key_lookup(prefix))
        if not seen.text:
            return ""
        key_id, tenant = keys.layout.read_lookup(seen.text)
        return keys.tenant(tenant or "").api_key(key_id)


def _leads_nowhere(entry: str, where: str) -> Finding:
    return Finding(WARNING, "LOOKUP_ORPHAN", entry, f"leads to {where}")


def _problem(record: dict[str, Any], known: KeyRecord | None, key_id: str) -> str:
    if known is None:
        return "its key_id, tenant_id, key_hash, expires_at, permissions or scope_filter is damaged"
    if known.key_id != key_id:
        return f"key_id is {known.key_id!r}"
    if record.get("status") not in _STATUSES:
        return f"status is {record.get('status')!r}"
    if not _BCRYPT.fullmatch(known.key_hash):
        return "key_hash is no bcrypt hash"
    prefix = record.get("key_prefix")
    if not isinstance(prefix, str) or len(prefix) != API_KEY_PREFIX_LENGTH:
        return f"key_prefix is not {API_KEY_PREFIX_LENGTH} characters"
    return ""
