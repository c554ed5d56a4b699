"""Bulk actions: one action for each row that a filter matches, behind gates, and once for a key.

Who repeats an action under its key within a quarter of an hour gets the first answer. One that was
broken off is finished by whoever repeats it within a day: which rows it is for was settled before
the first was touched, for what is done may not match any more; and rows that were done are not done
again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from cycles_server.governance.call import ANY_OWNER, Call, Change, mutate
from cycles_server.governance.records import ROW_KEPT_MS
from cycles_server.governance.scripts import record_bulk
from cycles_server.jsontext import canonical, stored_members, write_json
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt, StoreFault
from cycles_server.store.lease import Lease
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

Body = dict[str, Any]

MOST_ROWS = 500
_KEPT_MS = 900_000
_PLAN_KEPT_MS = ROW_KEPT_MS
"""As long as what was done to a row is remembered."""
_AT_ONCE = 16
_WAIT_S = 20.0
_POLL_S = 0.1
_LEASE_MS, _RENEW_MS = 15_000, 5_000

IN_TARGET_STATE = "ALREADY_IN_TARGET_STATE"
INVALID_TRANSITION = "INVALID_TRANSITION"
_FAILED = "The server failed on this row; its log says why under this request_id"


class RowSkipped(Exception):
    """There is nothing to do to a row."""


class Action(NamedTuple):
    """What is to be done.

    Attributes:
        operation: the operationId.
        owner: under whom its audit entry is filed.
        resource_type: of the rows.
        body: the request.
        matches: finds the rows; the id of each, and what ``act`` needs of it, as JSON values.
        act: does it to one row, in the run of this id: twice in one run is once. Raises RowSkipped,
            or Refusal for a row that fails.
        told: what else the audit entry says of the request.
    """

    operation: str
    owner: str
    resource_type: str
    body: Body
    matches: Callable[[], Awaitable[Sequence[tuple[str, Any]]]]
    act: Callable[[Any, str], Awaitable[None]]
    told: Mapping[str, Any] = MappingProxyType({})


class _Plan(NamedTuple):
    """What an action is for, settled before the first row is touched.

    Attributes:
        run: its id.
        started_at_ms: by the store's clock.
    """

    run: str
    started_at_ms: int
    rows: Sequence[tuple[str, Any]]


@dataclass(slots=True)
class _Outcome:
    succeeded: list[Body] = field(default_factory=list)
    failed: list[Body] = field(default_factory=list)
    skipped: list[Body] = field(default_factory=list)


async def perform(store: Store, call: Call, action: Action) -> bytes:
    """The answer, as JSON: the first one, byte for byte, for a repetition.

    Raises:
        Refusal: LIMIT_EXCEEDED or COUNT_MISMATCH with what was counted, and nothing was done;
            IDEMPOTENCY_MISMATCH; the same request is at work for longer than one waits.
        StoreError: the store failed; the same request again goes on with what is left.
    """
    key = action.body["idempotency_key"]
    if not key.strip():
        raise invalid("idempotency_key", "must not be blank")
    digest = hashlib.sha256(canonical(action.body)).hexdigest().encode()
    names = store.keys.tenant(action.owner)
    record = names.bulk_action(action.operation, key)
    planned = names.bulk_plan(action.operation, key)
    lease = Lease(store, f"{action.operation}:{key}", ttl_ms=_LEASE_MS, renew_ms=_RENEW_MS)
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        first = await _first_answer(store, record, digest)
        if first is not None:
            return first
        async with lease.held() as held:
            if held:
                # Between the look and the lease another may have come to its end.
                first = await _first_answer(store, record, digest)
                if first is not None:
                    return first
                plan = await _plan(store, action, planned, digest)
                kept = record_bulk.Keys(answer_record=record, plan_record=planned)
                return await _carry_out(store, call, action, plan, kept, digest)
        await asyncio.sleep(_POLL_S)
    raise Refusal(
        "INTERNAL_ERROR",
        "A request with this idempotency key is still at work",
        retry_after_s=1,
    )


def refuse_blank(asked: Body, *names: str) -> None:
    """Hold the texts of a filter to having something in them: a list takes a blank one as absent,
    and a bulk action would reach every row that the rest of the filter leaves.

    Raises:
        Refusal: 400 that names the member.
    """
    for name in names:
        value = asked.get(name)
        # The contract has an empty search count as absent.
        if value is not None and not value.strip() and (name, value) != ("search", ""):
            raise invalid(f"filter.{name}", "must not be blank; without it, any matches")


async def _first_answer(store: Store, record: str, digest: bytes) -> bytes | None:
    stored = await store.read("GET", record)
    if not stored:
        return None
    return _of_this_request(stored, digest)


def _of_this_request(stored: bytes, digest: bytes) -> bytes:
    """What is kept behind a request's digest. Raises: Refusal where that is another's."""
    of, _, kept = stored.partition(b"\n")
    if of != digest:
        raise Refusal(
            "IDEMPOTENCY_MISMATCH",
            "This idempotency key was used before with a different request",
        )
    return bytes(kept)


async def _plan(store: Store, action: Action, record: str, digest: bytes) -> _Plan:
    """The plan of a request that was broken off, or a new one.

    Raises:
        Refusal: more or other rows than there may be; the key belongs to another request.
        StoreError: the store failed, or the plan cannot be read.
    """
    stored = await store.read("GET", record)
    if not stored:
        started, rows = await now_ms(store), await _matched(action)
        await _check_audit(store, action)
        plan = _Plan(uuid.uuid4().hex, started, rows)
        text = digest + b"\n" + write_json(plan._asdict())
        if await store.write("SET", record, text, "NX", "PX", str(_PLAN_KEPT_MS)):
            return plan
        stored = await store.read("GET", record) or b""
    try:
        kept = stored_members(_of_this_request(stored, digest))
        return _Plan(
            kept["run"], kept["started_at_ms"], [(row_id, row) for row_id, row in kept["rows"]]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"{record} is no plan: {error!r}") from None


async def _check_audit(store: Store, action: Action) -> None:
    """Raises: StoreCorrupt where what is about to be done could not be told of."""
    names = store.keys.tenant(action.owner)
    for index in (names.audit_tenant_index, names.audit_index):
        kind = await store.read("TYPE", index)
        if kind not in (b"none", b"zset"):
            raise StoreCorrupt(f"{index} is no sorted set")


async def _matched(action: Action) -> Sequence[tuple[str, Any]]:
    body = action.body
    rows = await action.matches()
    counted = {"total_matched": len(rows)}
    if len(rows) > MOST_ROWS:
        raise Refusal(
            "LIMIT_EXCEEDED",
            f"{len(rows)} rows match; one action takes {MOST_ROWS} at most: narrow the filter",
            details=counted,
        )
    expected = body.get("expected_count")
    if expected is not None and expected != len(rows):
        raise Refusal("COUNT_MISMATCH", f"{len(rows)} rows match, not {expected}", details=counted)
    return rows


async def _carry_out(
    store: Store,
    call: Call,
    action: Action,
    plan: _Plan,
    kept: record_bulk.Keys,
    digest: bytes,
) -> bytes:
    body, rows = action.body, plan.rows
    counted = {"total_matched": len(rows)}
    outcome = _Outcome()
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        await asyncio.gather(*(_act(action, plan.run, one, outcome) for one in some))
    answer = write_json(
        {
            "action": body["action"],
            **counted,
            "succeeded": outcome.succeeded,
            "failed": outcome.failed,
            "skipped": outcome.skipped,
            "idempotency_key": body["idempotency_key"],
        }
    )
    facts = {
        "action": body["action"],
        **counted,
        "succeeded": len(outcome.succeeded),
        "failed": len(outcome.failed),
        "skipped": len(outcome.skipped),
        "succeeded_ids": [row["id"] for row in outcome.succeeded],
        "failed_rows": outcome.failed,
        "skipped_rows": outcome.skipped,
        "filter": body["filter"],
        "reason": body.get("reason"),
        **action.told,
        "idempotency_key": body["idempotency_key"],
        "duration_ms": await now_ms(store) - plan.started_at_ms,
        "actor_type": "admin_on_behalf_of",
    }
    before = record_bulk.read(
        await mutate(
            store,
            call,
            action.owner,
            record_bulk.NAME,
            kept,
            record_bulk.Arguments(answer=digest + b"\n" + answer, kept_ms=_KEPT_MS),
            Change(action.operation, action.resource_type, "bulk-action", facts),
            owner=ANY_OWNER,
        )
    )
    return answer if before is None else _of_this_request(before, digest)


async def _act(action: Action, run: str, one: tuple[str, Any], outcome: _Outcome) -> None:
    row_id, row = one
    try:
        await action.act(row, run)
    except RowSkipped:
        outcome.skipped.append({"id": row_id, "reason": IN_TARGET_STATE})
    except Refusal as refused:
        code = _ROW_CODES.get(refused.code, refused.code)
        outcome.failed.append({"id": row_id, "error_code": code, "message": refused.message})
    except (StoreCorrupt, StoreFault) as error:
        logger.error("%s: %s failed: %s", action.operation, row_id, error)
        failed = {"id": row_id, "error_code": "INTERNAL_ERROR", "message": _FAILED}
        outcome.failed.append(failed)
    else:
        outcome.succeeded.append({"id": row_id})


_ROW_CODES = {
    "BUDGET_NOT_FOUND": "NOT_FOUND",
    "TENANT_NOT_FOUND": "NOT_FOUND",
    "BUDGET_FROZEN": INVALID_TRANSITION,
    "BUDGET_CLOSED": INVALID_TRANSITION,
    "UNIT_MISMATCH": INVALID_TRANSITION,
    "INVALID_REQUEST": INVALID_TRANSITION,
}
"""The codes of requests that have another name for a row."""
