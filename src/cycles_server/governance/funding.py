"""Funding: what a budget has is changed by five operations, each in one step and one round trip.

With A the amount:

- CREDIT: allocated and remaining grow by A.
- DEBIT: both shrink by A, which must remain.
- RESET: allocated becomes A; what is reserved, spent and owed stays, and what remains follows.
- RESET_SPENT: the same, and spent becomes a given amount, or 0.
- REPAY_DEBT: A goes into the debt; what is more than the debt is a credit, in bulk nothing.

Afterwards the budget is over its limit if its debt is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cycles_server.auth.records import iso_instant
from cycles_server.governance.budgets import check_unit
from cycles_server.governance.call import (
    OPEN_OWNER,
    Call,
    Change,
    audited_metadata,
    closed_first,
    mutate,
)
from cycles_server.governance.ledgers import Body
from cycles_server.governance.scripts import fund as script
from cycles_server.jsontext import canonical
from cycles_server.scopes import lower_case
from cycles_server.store.store import Store

RESET_SPENT, REPAY_DEBT = "RESET_SPENT", "REPAY_DEBT"


async def fund_budget(
    store: Store,
    call: Call,
    tenant_id: str,
    scope: str,
    unit: str,
    body: Body,
    *,
    changeover: bool = False,
) -> Body:
    """Change what a budget has.

    Args:
        tenant_id: whose it must be.
        scope: in any case.
        body: BudgetFundingRequest.
        changeover: whether a funding that was done on the reference counts as done here, and one
            that is done here counts there.

    Returns:
        The BudgetFundingResponse; the first one for a repetition under the same idempotency key.

    Raises:
        Refusal: BUDGET_NOT_FOUND, another tenant's budget included; BUDGET_FROZEN, BUDGET_CLOSED,
            TENANT_CLOSED; BUDGET_EXCEEDED for a debit beyond what remains; IDEMPOTENCY_MISMATCH;
            UNIT_MISMATCH; 400 where an amount would be beyond int64.
        StaleCredential: see :func:`mutate`.
        StoreError: the store failed, or the record cannot be read.
    """
    operation, amount = body["operation"], body["amount"]
    resets_spent = operation == RESET_SPENT
    given_spent = body.get("spent") if resets_spent else None
    spent = given_spent or {"unit": unit, "amount": 0}
    async with closed_first(store, tenant_id):
        check_unit(unit, amount=amount, spent=spent)
    scope = lower_case(scope)
    names = store.keys.tenant(tenant_id)
    record = names.budget(scope, unit)
    key = body.get("idempotency_key")
    told: dict[str, Any] = {
        "scope": scope,
        "unit": unit,
        "funding_operation": operation,
        "amount": amount["amount"],
        "reason": body.get("reason"),
        "idempotency_key": key,
        "request_metadata": audited_metadata(body.get("metadata")),
        "spent_override_provided": given_spent is not None if resets_spent else None,
        "actor_type": call.actor_type,
    }
    done = script.read(
        await mutate(
            store,
            call,
            tenant_id,
            script.NAME,
            script.Keys(
                budget_record=record,
                funding_record=names.funding(record, key or ""),
                reference_record=names.reference_funding(key or ""),
                reference_hash=names.reference_funding_hash(key or ""),
                reference_budget=names.reference_funding_budget(key or ""),
            ),
            script.Arguments(
                scope=scope,
                operation=operation,
                amount=str(amount["amount"]),
                spent=str(spent["amount"]),
                request_hash=b"" if key is None else _request_hash(body),
                changeover_hash=_reference_hash(body) if changeover and key is not None else "",
                only_debt="",
                names_budget="",
            ),
            Change("fundBudget", "budget", "", told),
            owner=OPEN_OWNER,
        )
    )
    answer: Body = {"operation": operation}
    for name in ("allocated", "remaining", "debt", "spent"):
        change: script.Change = getattr(done, name)
        answer[f"previous_{name}"] = {"unit": unit, "amount": change.before}
        answer[f"new_{name}"] = {"unit": unit, "amount": change.after}
    answer["timestamp"] = iso_instant(done.at_ms)
    return answer


async def fund_row(
    store: Store,
    call: Call,
    tenant_id: str,
    ledger: Body,
    body: Body,
    run: str,
    *,
    changeover: bool = False,
) -> None:
    """Do to one budget what a bulk action does to many; it leaves no entry of its own.

    Args:
        ledger: scope, unit and ledger_id of the budget.
        body: BudgetBulkActionRequest.
        run: the id under which it is not done twice, in a name space of its own.
        changeover: as :func:`fund_budget` has it.

    Raises:
        Refusal, StoreError: as :func:`fund_budget`; NO_DEBT for a repayment of nothing.
    """
    scope, unit = ledger["scope"], ledger["unit"]
    names = store.keys.tenant(tenant_id)
    record = names.budget(scope, unit)
    # Under this key the reference does a row, as if it were a funding by itself.
    reference_key = f"{body['idempotency_key']}:{scope}:{unit}"
    operation = body["action"]
    spent = (body.get("spent") or {}).get("amount", 0) if operation == RESET_SPENT else 0
    await mutate(
        store,
        call,
        tenant_id,
        script.NAME,
        script.Keys(
            budget_record=record,
            funding_record=names.bulk_funding(record, run),
            reference_record=names.reference_funding(reference_key),
            reference_hash=names.reference_funding_hash(reference_key),
            reference_budget=names.reference_funding_budget(reference_key),
        ),
        script.Arguments(
            scope=scope,
            operation=operation,
            amount=str(body["amount"]["amount"]),
            spent=str(spent),
            request_hash=_request_hash(body),
            changeover_hash=(
                _reference_hash({**body, "operation": operation, "idempotency_key": reference_key})
                if changeover
                else ""
            ),
            only_debt="1" if operation == REPAY_DEBT else "",
            names_budget="1",
        ),
        Change("bulkActionBudgets", "budget", ledger["ledger_id"], silent=True),
        owner=OPEN_OWNER,
    )


def _request_hash(body: Body) -> bytes:
    given = {name: value for name, value in body.items() if value is not None}
    digest = hashlib.sha256(canonical(given)).digest()
    return base64.b64encode(digest).rstrip(b"=")


def _reference_hash(body: Body) -> str:
    """The reference's own: SHA-256 of the request as it writes it again, absent members null."""

    def amount(value: Body | None) -> Body | None:
        return value and {"unit": value["unit"], "amount": value["amount"]}

    written = {
        "operation": body["operation"],
        "amount": amount(body["amount"]),
        "spent": amount(body.get("spent")),
        "reason": body.get("reason"),
        "idempotency_key": body.get("idempotency_key"),
        "metadata": body.get("metadata"),
    }
    text = json.dumps(written, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
