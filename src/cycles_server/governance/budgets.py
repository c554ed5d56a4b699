"""Budgets: made, looked up, and what they allow changed, each in one step.

Amounts are int64 in the budget's unit; ``USD_MICROCENTS`` are 10^-8 dollars.
"""

from __future__ import annotations

import uuid
from typing import Any

from cycles_server.auth.records import iso_instant
from cycles_server.governance.call import (
    ACTIVE_OWNER,
    OPEN_OWNER,
    Call,
    Change,
    audited_metadata,
    closed_first,
    mutate,
)
from cycles_server.governance.ledgers import FIELDS, Body, fields_row, ledger_body
from cycles_server.governance.scripts import create_budget as create
from cycles_server.governance.scripts import update_budget as update
from cycles_server.jsontext import write_json
from cycles_server.paging.windows import read_moment
from cycles_server.refusal import Refusal, invalid
from cycles_server.scopes import canonical_scope, counts_for, lower_case, tenant_in
from cycles_server.store.store import Store

ACTIVE, FROZEN = "ACTIVE", "FROZEN"


async def create_budget(store: Store, call: Call, tenant_id: str, body: Body) -> Body:
    """Make a budget with what is allocated to spend.

    Args:
        tenant_id: whose it is to be.
        body: BudgetCreateRequest.

    Returns:
        The BudgetLedger.

    Raises:
        Refusal: 400 for a scope that is not one of the tenant's, for a period that is no time, or
            for a tenant that is not ACTIVE; UNIT_MISMATCH; DUPLICATE_RESOURCE for one that exists;
            TENANT_CLOSED.
        StaleCredential: see :func:`mutate`.
        StoreError: the store failed.
    """
    unit = body["unit"]
    limit = body.get("overdraft_limit") or {"unit": unit, "amount": 0}
    async with closed_first(store, tenant_id):
        scope = own_scope(tenant_id, body["scope"])
        check_unit(unit, allocated=body["allocated"], overdraft_limit=limit)
        period = [_period(body, name) for name in ("period_start", "period_end")]
    arguments = create.Arguments(
        ledger_id=str(uuid.uuid4()),
        scope=scope,
        unit=unit,
        allocated=str(body["allocated"]["amount"]),
        overdraft_limit=str(limit["amount"]),
        overage_policy=body.get("commit_overage_policy") or "",
        rollover_policy=body.get("rollover_policy") or "",
        period_start=period[0],
        period_end=period[1],
        metadata=_stored(body.get("metadata")),
    )
    names = store.keys.tenant(tenant_id)
    answer = create.read(
        await mutate(
            store,
            call,
            tenant_id,
            create.NAME,
            create.Keys(names.budget(scope, unit), *names.listed(names.budgets)),
            arguments,
            Change(
                "createBudget",
                "budget",
                arguments.ledger_id,
                {
                    "scope": scope,
                    "unit": unit,
                    "allocated": body["allocated"]["amount"],
                    "actor_type": call.actor_type,
                },
                status=201,
            ),
            owner=ACTIVE_OWNER,
        )
    )
    if isinstance(answer, create.Exists):
        raise Refusal("DUPLICATE_RESOURCE", f"There is a budget of {scope} in {unit} already")
    row = {
        "ledger_id": arguments.ledger_id,
        "tenant_id": tenant_id,
        "allocated": arguments.allocated,
        "remaining": arguments.allocated,
        "overdraft_limit": arguments.overdraft_limit,
        "commit_overage_policy": arguments.overage_policy,
        "rollover_policy": arguments.rollover_policy,
        "period_start": arguments.period_start,
        "period_end": arguments.period_end,
        "created_at": str(answer.at_ms),
    }
    return ledger_body(row, scope, unit)


async def find_budget(store: Store, scope: str, unit: str, tenant_id: str | None = None) -> Body:
    """A budget's BudgetLedger.

    Args:
        scope: in any case.
        tenant_id: whose it must be; None for anybody's.

    Raises:
        Refusal: BUDGET_NOT_FOUND, for another tenant's too.
        StoreError: the store failed, or the record cannot be read.
    """
    scope = lower_case(scope)
    names = store.keys.tenant(tenant_in(scope) or (tenant_id or ""))
    row = fields_row(await store.read("HMGET", names.budget(scope, unit), *FIELDS))
    owner = row.get("tenant_id") or tenant_in(scope)
    if not row or (tenant_id is not None and not counts_for(tenant_id, owner, scope)):
        raise no_such_budget(scope, unit)
    return ledger_body({**row, "tenant_id": owner}, scope, unit)


async def update_budget(store: Store, call: Call, scope: str, unit: str, body: Body) -> Body:
    """Set a budget's overdraft limit, overage policy or metadata; being over the limit follows.

    Args:
        body: BudgetUpdateRequest.

    Raises:
        Refusal: BUDGET_NOT_FOUND, BUDGET_CLOSED, TENANT_CLOSED, UNIT_MISMATCH.
        StoreError: the store failed, or the record cannot be read.
    """
    limit = body.get("overdraft_limit")
    policy = body.get("commit_overage_policy")
    before = await find_budget(store, scope, unit)
    if limit is not None:
        async with closed_first(store, before["tenant_id"]):
            check_unit(unit, overdraft_limit=limit)
    told = {
        "overdraft_limit": None if limit is None else limit["amount"],
        "commit_overage_policy": policy,
    }
    return await _updated(
        store,
        call,
        before,
        update.Arguments(
            scope=lower_case(scope),
            overdraft_limit="" if limit is None else str(limit["amount"]),
            overage_policy=policy or "",
            metadata=_stored(body.get("metadata")),
            status="",
        ),
        ("updateBudget", told),
    )


async def set_status(
    store: Store, call: Call, scope: str, unit: str, status: str, body: Body
) -> Body:
    """Freeze a budget, or unfreeze it; its amounts stay.

    Args:
        status: FROZEN or ACTIVE.
        body: BudgetStatusTransitionRequest; why, for the audit.

    Raises:
        Refusal: BUDGET_NOT_FOUND, BUDGET_CLOSED, TENANT_CLOSED; a conflict with the status that
            it has already.
        StoreError: the store failed, or the record cannot be read.
    """
    told = {
        "reason": body.get("reason"),
        "request_metadata": audited_metadata(body.get("metadata")),
    }
    return await _updated(
        store,
        call,
        await find_budget(store, scope, unit),
        update.Arguments(
            scope=lower_case(scope),
            overdraft_limit="",
            overage_policy="",
            metadata=b"",
            status=status,
        ),
        ("freezeBudget" if status == FROZEN else "unfreezeBudget", told),
    )


async def _updated(
    store: Store,
    call: Call,
    before: Body,
    arguments: update.Arguments,
    told: tuple[str, dict[str, Any]],
) -> Body:
    operation, facts = told
    scope, unit = before["scope"], before["unit"]
    # Whose it is says the record: a scope that is written otherwise must not lead past a guard.
    owner = before["tenant_id"]
    record = store.keys.tenant(owner).budget(scope, unit)
    after = update.read(
        await mutate(
            store,
            call,
            owner,
            update.NAME,
            update.Keys(budget_record=record),
            arguments.asking(),
            Change(
                operation,
                "budget",
                before["ledger_id"],
                {"scope": scope, "unit": unit, **facts},
            ),
            owner=OPEN_OWNER,
        )
    )
    return ledger_body({**after, "tenant_id": owner}, scope, unit)


def own_scope(tenant_id: str, text: str) -> str:
    """The canonical form of a scope below a tenant's own.

    Raises:
        Refusal: 400 for any other.
    """
    scope = canonical_scope(text)
    if tenant_in(scope) != lower_case(tenant_id):
        raise invalid("scope", f"{text!r} is not below tenant:{tenant_id}")
    return scope


def check_unit(unit: str, **amounts: Body) -> None:
    """Raises: Refusal UNIT_MISMATCH for an amount in another unit than the budget's."""
    for name, amount in amounts.items():
        if amount["unit"] != unit:
            raise Refusal("UNIT_MISMATCH", f"{name}: {amount['unit']} is not the budget's {unit}")


def no_such_budget(scope: str, unit: str) -> Refusal:
    return Refusal("BUDGET_NOT_FOUND", f"There is no budget of {scope} in {unit}")


def _stored(metadata: Body | None) -> bytes:
    return b"" if metadata is None else write_json(metadata)


def _period(body: Body, name: str) -> str:
    text = body.get(name)
    if text is None:
        return ""
    try:
        ms = read_moment(text).ms
        iso_instant(ms)  # in UTC it may be of a year that cannot be answered
    except (ValueError, OverflowError):
        raise invalid(name, "must be an RFC 3339 date-time like 2026-04-10T12:00:00Z") from None
    return str(ms)
