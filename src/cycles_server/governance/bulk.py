"""Bulk actions: one action for each row that a filter matches, behind gates, and once for a key.

Who repeats an action under its key within a quarter of an hour gets the first answer. One that was
broken off is finished by whoever repeats it; rows that were done are not done again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cycles_server.governance.call import ANY_OWNER, Call, Change, mutate
from cycles_server.governance.scripts import record_bulk
from cycles_server.jsontext import canonical, write_json
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.clock import now_ms
from cycles_server.store.errors import StoreCorrupt, StoreFault
from cycles_server.store.lease import Lease
from cycles_server.store.store import Store

Body = dict[str, Any]

MOST_ROWS = 500
_KEPT_MS = 900_000
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
        matches: finds the rows; the id of each, and what ``act`` needs of it.
        act: does it to one row. Raises RowSkipped, or Refusal for a row that fails.
    """

    operation: str
    owner: str
    resource_type: str
    body: Body
    matches: Callable[[], Awaitable[Sequence[tuple[str, Any]]]]
    act: Callable[[Any], Awaitable[None]]


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
    record = store.keys.tenant(action.owner).bulk_action(action.operation, key)
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
                return (
                    first if first is not None else await _run(store, call, action, record, digest)
                )
        await asyncio.sleep(_POLL_S)
    raise Refusal(
        "INTERNAL_ERROR",
        "A request with this idempotency key is still at work",
        retry_after_s=1,
    )


async def _first_answer(store: Store, record: str, digest: bytes) -> bytes | None:
    stored = await store.read("GET", record)
    if not stored:
        return None
    of, _, answer = stored.partition(b"\n")
    if of != digest:
        raise Refusal(
            "IDEMPOTENCY_MISMATCH",
            "This idempotency key was used before with a different request",
        )
    return bytes(answer)


async def _run(store: Store, call: Call, action: Action, record: str, digest: bytes) -> bytes:
    body = action.body
    started = await now_ms(store)
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
    outcome = _Outcome()
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        await asyncio.gather(*(_act(action, row_id, row, outcome) for row_id, row in some))
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
        "amount": (body.get("amount") or {}).get("amount"),
        "unit": (body.get("amount") or {}).get("unit"),
        "idempotency_key": body["idempotency_key"],
        "duration_ms": await now_ms(store) - started,
        "actor_type": "admin_on_behalf_of",
    }
    await mutate(
        store,
        call,
        action.owner,
        record_bulk.NAME,
        record_bulk.Keys(answer_record=record),
        record_bulk.Arguments(answer=digest + b"\n" + answer, kept_ms=_KEPT_MS),
        Change(action.operation, action.resource_type, "bulk-action", facts),
        owner=ANY_OWNER,
    )
    return answer


async def _act(action: Action, row_id: str, row: Any, outcome: _Outcome) -> None:
    try:
        await action.act(row)
    except RowSkipped:
        outcome.skipped.append({"id": row_id, "reason": IN_TARGET_STATE})
    except Refusal as refused:
        code = _ROW_CODES.get(refused.code, refused.code)
        outcome.failed.append({"id": row_id, "error_code": code, "message": refused.message})
    except (StoreCorrupt, StoreFault):
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
