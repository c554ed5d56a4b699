"""API keys: looked up by prefix, verified once by bcrypt, confirmed on every request.

A verified secret is remembered together with the records it was verified against. Nothing is
trusted for a time: each request either has the ledger script compare those records with the
stored ones, or reads them again here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from cycles_server.auth.lookup import look_up
from cycles_server.auth.principal import Principal
from cycles_server.auth.records import UNREADABLE, KeyRecord, read_key, read_tenant
from cycles_server.refusal import Refusal, unauthorized
from cycles_server.store.clock import epoch_ms
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000
_RETRY_AFTER_S = 1
_WAITING_AT_MOST = 128
"""Secrets that may wait for their hash on one key; nobody waits much longer than half a minute."""
_NICENESS = 5
_UNREADABLE = b"?"


@dataclass(slots=True)
class _Queue:
    """Secrets that are to be checked against one key, one at a time."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class ApiKeys:
    """Authenticates the secrets of ``X-Cycles-API-Key``.

    Args:
        strict: as the governance contract has it: a key ends with its ``expires_at``, and a record
            that cannot be read is the server's failure (``StoreCorrupt``), not the caller's.

    Attributes:
        threads: where secrets are hashed. A hash takes a quarter of a second: beside the event
            loop, on fewer threads than there are processors, and with less claim to them than the
            loop has.
    """

    header = b"x-cycles-api-key"

    def __init__(self, store: Store, *, strict: bool = False) -> None:
        self._store = store
        self._strict = strict
        self._remembered: OrderedDict[str, Principal] = OrderedDict()
        self._verifying: dict[tuple[str, bytes], asyncio.Future[bool]] = {}
        self._queues: dict[str, _Queue] = {}
        self.threads = ThreadPoolExecutor(
            max_workers=max(1, (os.cpu_count() or 2) // 2),
            thread_name_prefix="bcrypt",
            initializer=_be_nice,
        )

    def recall(self, secret: str) -> Principal | None:
        """The principal of a secret verified before, to be confirmed by a ledger script."""
        return self._remembered.get(secret)

    async def authenticate(self, secret: str) -> Principal:
        """The principal of a secret, by the records as they are now.

        Returns the remembered object itself where nothing has changed.

        Raises:
            Refusal: 401 for any secret that is not a key in force.
            StoreError: the records could not be read.
        """
        known = self._remembered.get(secret)
        if known is not None and known.tenant is not None:
            principal = await self._read(secret, known.key_id, known.tenant, known)
        else:
            principal = await self._look_up(secret)
        if principal is None:
            self._remembered.pop(secret, None)
            raise unauthorized()
        if principal is not known:
            self._remembered[secret] = principal
            self._remembered.move_to_end(secret)
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return principal

    async def _look_up(self, secret: str) -> Principal | None:
        try:
            found = await look_up(self._store, secret)
        except StoreCorrupt as error:
            if self._strict:
                raise
            logger.error("a secret leads to no record: %s", error)
            found = None
        if found is None:
            _refuse("no such key")
            return None
        key = self._readable(found.record, found.key_id)
        if key is None:
            return None
        return await self._read(secret, found.key_id, found.tenant or key.tenant, None)

    async def _read(
        self, secret: str, key_id: str, tenant: str, known: Principal | None
    ) -> Principal | None:
        names = self._store.keys.tenant(tenant)
        record, tenant_record, clock = await self._ask(
            ("GET", names.api_key(key_id)), ("GET", names.record), ("TIME",)
        )
        key = self._readable(record, key_id)
        if key is None:
            return None
        if key.tenant != tenant:
            _refuse("another tenant's", key_id)
            return None
        if not key.in_force(epoch_ms(clock)):
            _refuse("expired" if key.active else "revoked", key_id)
            return None
        if known and known.key_record == record and known.tenant_record == tenant_record:
            return known
        # A record that changed in other fields (a new permission) needs no second bcrypt.
        before = read_key(known.key_record) if known else None
        unchanged = before is not None and before.key_hash == key.key_hash
        if not unchanged and not await self.verify(secret, key):
            _refuse("wrong secret", key_id)
            return None
        policy = read_tenant(tenant_record)
        if self._strict and policy.guard == UNREADABLE:
            raise StoreCorrupt(f"{names.record} cannot be read")
        return Principal(
            tenant=key.tenant,
            key_id=key_id,
            permissions=key.permissions,
            scope_filter=key.scope_filter,
            policy=policy,
            key_record=record,
            tenant_record=tenant_record,
            expires_at="" if key.expires_at_ms is None else str(key.expires_at_ms),
        )

    def _readable(self, record: bytes, key_id: str) -> KeyRecord | None:
        """The key in a record; None, and said so in the log, if it opens nothing.

        Raises:
            StoreCorrupt: there is a record, it cannot be understood, and this is strict.
        """
        key = read_key(record)
        if key is None:
            if self._strict and record:
                raise StoreCorrupt(f"the record of API key {key_id} cannot be read")
            _refuse("no readable record", key_id)
        elif self._strict and key.expires_at_ms is not None:
            key = replace(key, expires_at_ms=key.expires_at_ms - 1)  # its last good moment
        return key

    async def _ask(self, *commands: tuple[str, ...]) -> list[Any]:
        """What the store answers to each, in one round trip; empty for a record that is not there.

        A record that is not even text is no key's and no tenant's: it is answered as one that
        nobody can read, so that it concerns only those who need it.
        """
        replies = await asyncio.gather(
            *(self._store.read(*command) for command in commands), return_exceptions=True
        )
        for place, reply in enumerate(replies):
            if isinstance(reply, StoreCorrupt):
                logger.error("%s is no record: %s", commands[place][1], reply)
                replies[place] = _UNREADABLE
            elif isinstance(reply, BaseException):
                raise reply
        return [reply or b"" for reply in replies]

    async def verify(self, secret: str, key: KeyRecord) -> bool:
        """bcrypt, once for all requests that bring the same secret at the same time.

        Raises:
            Refusal: 429 while too many other secrets wait for the same key.
        """
        slot = (secret, key.key_hash)
        task = self._verifying.get(slot)
        if task is None:
            queue = self._queues.setdefault(key.key_id, _Queue())
            if queue.length >= _WAITING_AT_MOST:
                raise Refusal(
                    "LIMIT_EXCEEDED",
                    "Too many secrets are being tried on this API key",
                    retry_after_s=_RETRY_AFTER_S,
                )
            queue.length += 1
            task = asyncio.create_task(self._hash(secret.encode(), key, queue))
            self._verifying[slot] = task
            task.add_done_callback(lambda _: self._verifying.pop(slot))
        # A caller that hangs up must not take the answer away from the others.
        return await asyncio.shield(task)

    async def _hash(self, secret: bytes, key: KeyRecord, queue: _Queue) -> bool:
        """One hash at a time for each key: whoever tries many secrets on one key stands in the
        way of that key alone."""
        try:
            async with queue.turn:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self.threads, key.matches, secret)
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[key.key_id]

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)


def _be_nice() -> None:
    # Linux lets each thread have a niceness of its own; elsewhere this does nothing.
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    except (AttributeError, OSError):
        return


def _refuse(reason: str, key_id: str = "") -> None:
    logger.info("authentication refused: %s", reason, extra={"key_id": key_id})
