"""A tenant's close: its record turns CLOSED first, then what it owns follows.

From the first step on every mutation of what the tenant owns is refused, in one step with it
(contract: Tenant close, mode B). The rest is released, closed, revoked and disabled in small steps
that may be broken off and repeated: what has ended already is passed over and told of once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from cycles_server.auth.records import iso_instant
from cycles_server.governance.call import ANY_OWNER, Call, Change, audit_members
from cycles_server.governance.records import (
    ROW_KEPT_MS,
    Record,
    change_record,
    read_record,
)
from cycles_server.governance.scripts import close_budgets, close_tenant, release_all
from cycles_server.governance.tenants import CLOSED, TOLD, Body, no_such_tenant, tenant_body
from cycles_server.jsontext import stored_members, write_json
from cycles_server.paging.walks import STEP, IndexWalk
from cycles_server.refusal import Refusal
from cycles_server.store.answers import Refused
from cycles_server.store.clock import DAY_MS
from cycles_server.store.errors import StoreCorrupt, StoreFault
from cycles_server.store.keys import TenantKeys
from cycles_server.store.link import Reply
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

_BATCH = 32
"""Objects that one script ends; each has an audit entry, so a batch takes Redis about a ms."""
_RECORDS_AT_ONCE = 16

_T = TypeVar("_T")


@dataclass(slots=True)
class Converged:
    """What a run of the cascade has ended, by kind, and what it could not end."""

    ended: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


class Closed(NamedTuple):
    """A tenant whose record is CLOSED, and whether it has been turned so just now."""

    tenant: Body
    is_new: bool


async def begin_close(
    store: Store, call: Call, tenant_id: str, changes: Body, *, row: str = ""
) -> Closed:
    """Turn a tenant's record CLOSED; one that is stays as it is.

    Args:
        changes: other members of the record to set in the same step; of a tenant that is CLOSED
            already nothing is set.
        row: where it is noted as a row of a bulk action, which leaves no entry of its own; empty
            for a close by itself.

    Raises:
        Refusal: TENANT_NOT_FOUND.
        StoreError: the store failed, or the record cannot be read.
    """
    names = store.keys.tenant(tenant_id)
    origin = {
        "request_id": call.request_id,
        "trace_id": call.trace_id,
        "client": call.client,
        "user_agent": call.user_agent,
    }

    is_new = False

    def changed(record: Record, now: int) -> Change:
        nonlocal is_new
        is_new = record.get("status") != CLOSED
        facts = {}
        if is_new:
            at = iso_instant(now)
            tenant_body(record)  # what could not be answered is left as it is
            record.update(changes | {"status": CLOSED, "updated_at": at, "closed_at": at})
            facts = {"new_status": CLOSED, **{name: changes.get(name) for name in TOLD}}
        return Change("updateTenant", "tenant", tenant_id, facts, silent=bool(row))

    def closing(_: str, expected: bytes, replacement: bytes) -> Any:
        keys = close_tenant.Keys(closings=names.closings, row_record=row or names.record)
        kept_ms = ROW_KEPT_MS if row and is_new else 0
        arguments = close_tenant.Arguments(expected, replacement, write_json(origin), kept_ms)
        return close_tenant.NAME, keys, arguments

    record = await change_record(
        store,
        call,
        tenant_id,
        names.record,
        changed,
        absent=no_such_tenant(tenant_id),
        owner=ANY_OWNER,
        writing=closing,
    )
    return Closed(tenant_body(record), is_new)


async def converge(store: Store, tenant_id: str, *, audit_days: int) -> Converged:
    """End what a closed tenant owns, as far as it has not ended.

    Reservations first, while their budgets still take the holds back; then budgets, webhook
    subscriptions and API keys. Each object ends in one step with its audit entry, which carries
    the ids of the request that closed the tenant.

    A close that is noted for a tenant that is not CLOSED is nobody's here, for both are written in
    one step: the note is dropped, and nothing is ended.

    Raises:
        StoreError: the store failed, or the tenant's record cannot be read; what is left goes on
            with the next run.
    """
    names = store.keys.tenant(tenant_id)
    stored = await store.read_bulk("GET", names.record)
    status = read_record(names.record, stored).get("status") if stored else None
    if status != CLOSED:
        logger.warning("a close of %s was noted, whose status is %s: dropped", tenant_id, status)
        await store.write("SREM", names.closed, tenant_id)  # when it is closed, it begins anew
        await store.write("HDEL", names.closings, tenant_id)
        return Converged()
    run = _Run(store, tenant_id, await _origin(store, tenant_id, audit_days))
    await run.step("reservation", run.release_reservations())
    await run.step("budget", run.close_budgets())
    await run.step(
        "webhook", run.end_records("webhook", names.webhooks(), names.webhook, _disabled)
    )
    await run.step("api_key", run.end_records("api_key", names.api_keys(), names.api_key, _revoked))
    if not run.done.failed:
        await store.write("SADD", names.closed, tenant_id)
        await store.write("HDEL", names.closings, tenant_id)
    return run.done


async def _origin(store: Store, tenant_id: str, audit_days: int) -> Call:
    """The call that closed the tenant, as far as it is known."""
    call = Call(audit_days=audit_days)
    stored = await store.read_bulk("HGET", store.keys.tenant(tenant_id).closings, tenant_id)
    try:
        origin = stored_members(stored or b"{}")
    except ValueError:
        return call

    def known(name: str) -> str:
        return str(origin.get(name, ""))

    return replace(
        call,
        request_id=known("request_id"),
        trace_id=known("trace_id"),
        client=known("client"),
        user_agent=known("user_agent"),
    )


class _Run:
    """One run over one tenant."""

    def __init__(self, store: Store, tenant_id: str, call: Call) -> None:
        self.names: TenantKeys = store.keys.tenant(tenant_id)
        self.done = Converged()
        self._store = store
        self._tenant = tenant_id
        self._call = call
        members = audit_members(call, tenant_id, operation="", status=200)
        self._members = write_json(
            {name: value for name, value in members.items() if name not in ("operation", "status")}
        )[1:-1]
        self._kept_ms = call.audit_days * DAY_MS

    async def step(self, kind: str, work: Awaitable[None]) -> None:
        """Do one of the steps. A damaged set or index must not hold up the others."""
        try:
            await work
        except StoreCorrupt as error:
            self._fail(kind, "*", error)

    # -- reservations ------------------------------------------------------------------------------

    async def release_reservations(self) -> None:
        """Those in the tenant's own index; where budgets hold more, those of all live ones."""
        walk = IndexWalk(self._store, self.names.index, newest_first=False)
        while positions := await walk.step(STEP):
            ids = [row_id for _, row_id in positions]
            # The index keeps what has ended for a month; what is live is due some time.
            due = await self._store.read_bulk("ZMSCORE", self.names.ttl, *ids)
            await self._release([one for one, score in zip(ids, due, strict=True) if score])
        if not await self._holds():
            return
        walk = IndexWalk(self._store, self.names.ttl, newest_first=False)
        while positions := await walk.step(STEP):
            await self._release(await self._own(row_id for _, row_id in positions))

    async def _release(self, ids: Sequence[str]) -> None:
        names = self.names
        keys = release_all.Keys(
            tenant_record=names.record,
            expiries=names.ttl,
            audit_of_tenant=names.audit_tenant_index,
            audit_of_all=names.audit_index,
        )
        arguments = release_all.Arguments(
            tenant=self._tenant,
            budget_prefix=names.budget_prefix,
            audit_prefix=names.audit_prefix,
            audit_members=self._members,
            audit_kept_ms=self._kept_ms,
        )

        async def release(batch: Sequence[str]) -> list[str]:
            reservations = [names.reservation(one) for one in batch]
            return await self._ask(
                release_all.NAME, [*keys, *reservations], [*arguments, *batch], release_all.read
            )

        await self._in_batches("reservation", ids, release)

    async def _holds(self) -> bool:
        """Whether a budget of the tenant is reserved of, though nothing is left in the index."""
        budgets = await self._store.read_bulk("SMEMBERS", self.names.budgets)
        for some in _pieces(sorted(budgets), STEP):
            rows = await _gathered(
                self._store.read_bulk("HMGET", key, "reserved", "status") for key in some
            )
            if any(row[0] not in (None, b"", b"0") and row[1] != b"CLOSED" for row in rows if row):
                return True
        return False

    async def _own(self, ids: Any) -> list[str]:
        known = list(ids)
        tenants = await _gathered(
            self._store.read_bulk("HGET", self.names.reservation(one), "tenant") for one in known
        )
        own = self._tenant.encode()
        return [one for one, tenant in zip(known, tenants, strict=True) if tenant == own]

    # -- budgets -----------------------------------------------------------------------------------

    async def close_budgets(self) -> None:
        names = self.names
        keys = close_budgets.Keys(
            tenant_record=names.record,
            audit_of_tenant=names.audit_tenant_index,
            audit_of_all=names.audit_index,
        )
        arguments = close_budgets.Arguments(
            tenant=self._tenant,
            audit_prefix=names.audit_prefix,
            audit_members=self._members,
            audit_kept_ms=self._kept_ms,
        )

        async def close(batch: Sequence[str]) -> list[str]:
            scopes = [names.scope_and_unit(key)[0] for key in batch]
            return await self._ask(
                close_budgets.NAME, [*keys, *batch], [*arguments, *scopes], close_budgets.read
            )

        stored = await self._store.read_bulk("SMEMBERS", names.budgets)
        budgets = sorted(key.decode(errors="replace") for key in stored)
        await self._in_batches("budget", budgets, close)

    # -- records -----------------------------------------------------------------------------------

    async def end_records(
        self,
        kind: str,
        members: str,
        key_of: Callable[[str], str],
        ending: Callable[[Record, str], Change | None],
    ) -> None:
        """End JSON records by a change of each, which says nothing of those that have ended."""
        stored = await self._store.read_bulk("SMEMBERS", members)
        ids = sorted(one.decode(errors="replace") for one in stored)
        for some in _pieces(ids, _RECORDS_AT_ONCE):
            await asyncio.gather(*(self._end(kind, one, key_of(one), ending) for one in some))

    async def _end(
        self,
        kind: str,
        one: str,
        key: str,
        ending: Callable[[Record, str], Change | None],
    ) -> None:
        ended = False

        def changed(record: Record, now: int) -> Change | None:
            nonlocal ended
            owner = record.get("tenant_id", self._tenant)
            change = ending(record, iso_instant(now)) if owner == self._tenant else None
            ended = change is not None
            return change

        try:
            await change_record(
                self._store,
                self._call,
                self._tenant,
                key,
                changed,
                absent=_GONE,
                owner=ANY_OWNER,
            )
        except Refusal as refused:
            if refused is not _GONE:
                raise
        except (StoreCorrupt, StoreFault) as error:
            self._fail(kind, one, error)
        else:
            self.done.ended[kind] += ended

    # -- details -----------------------------------------------------------------------------------

    async def _ask(
        self,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Any],
        read: Callable[[Reply], list[str] | Refused],
    ) -> list[str]:
        answer = read(await self._store.call(self._tenant, script, keys, arguments, bulk=True))
        if isinstance(answer, Refused):
            raise StoreCorrupt(answer.code)
        return answer

    async def _in_batches(
        self,
        kind: str,
        members: Sequence[str],
        end: Callable[[Sequence[str]], Awaitable[list[str]]],
    ) -> None:
        for batch in _pieces(members, _BATCH):
            try:
                outcomes = await end(batch)
            except (StoreCorrupt, StoreFault) as error:
                if len(batch) == 1:
                    self._fail(kind, batch[0], error)
                else:
                    # One damaged record must not hold up the others of its batch.
                    for one in batch:
                        await self._in_batches(kind, [one], end)
                continue
            for one, outcome in zip(batch, outcomes, strict=True):
                if outcome == release_all.DAMAGED:
                    self._fail(kind, one, StoreCorrupt("its record cannot be read"))
                else:
                    self.done.ended[kind] += outcome != "OVER"

    def _fail(self, kind: str, one: str, error: Exception) -> None:
        self.done.failed.append(f"{kind}:{one}")
        logger.error(
            "a closed tenant's %s %s cannot be ended: %s",
            kind,
            one,
            error,
            extra={"tenant": self._tenant},
        )


_GONE = Refusal("NOT_FOUND", "It is in the tenant's set and has no record")


def _facts(prior: Any, new: str, **more: Any) -> dict[str, Any]:
    return {
        "cascade": "tenant_close",
        "cascade_reason": "tenant_closed",
        **more,
        "prior_status": prior,
        "new_status": new,
    }


def _disabled(record: Record, at: str) -> Change | None:
    prior = record.get("status")
    if prior not in ("ACTIVE", "PAUSED"):
        return None
    record.update(status="DISABLED", updated_at=at)
    name = str(record.get("subscription_id", ""))
    facts = _facts(prior, "DISABLED", subscription_id=name, name=record.get("name"))
    return Change("webhook.disabled_via_tenant_cascade", "webhook_subscription", name, facts)


def _revoked(record: Record, at: str) -> Change | None:
    prior = record.get("status")
    if prior != "ACTIVE":
        return None
    record.update(status="REVOKED", revoked_at=at, revoked_reason="tenant_closed")
    name = str(record.get("key_id", ""))
    facts = _facts(prior, "REVOKED", key_id=name, name=record.get("name"))
    return Change("api_key.revoked_via_tenant_cascade", "api_key", name, facts)


def _pieces(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def _gathered(asked: Any) -> list[Any]:
    """What the store answers to each; None for what stands in a record's place."""
    replies = await asyncio.gather(*asked, return_exceptions=True)
    for place, reply in enumerate(replies):
        if isinstance(reply, StoreCorrupt):
            replies[place] = None
        elif isinstance(reply, BaseException):
            raise reply
    return replies
