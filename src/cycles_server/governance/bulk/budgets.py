"""bulkActionBudgets: one funding operation for each of a tenant's budgets that match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cycles_server.governance.bulk.runs import Action, Body, RowSkipped, perform, refuse_blank
from cycles_server.governance.call import Call
from cycles_server.governance.funding import RESET_SPENT, fund_row
from cycles_server.governance.listing.budgets import budgets_asked_for
from cycles_server.governance.tenants import find_tenant
from cycles_server.jsontext import Number
from cycles_server.paging.queries import given
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.store import Store


async def bulk_action_budgets(
    store: Store, call: Call, body: Body, *, changeover: bool = False
) -> bytes:
    """The BudgetBulkActionResponse, as JSON.

    Args:
        body: BudgetBulkActionRequest.
        changeover: whether rows that the reference has done under the same key count as done here,
            and those that are done here count there.

    Raises:
        Refusal: 400 for an action without what it needs; TENANT_NOT_FOUND; see :func:`perform`.
        StoreError: see :func:`perform`.
    """
    amount, spent = body.get("amount"), body.get("spent")
    if amount is None:
        raise invalid("amount", f"is needed for {body['action']}")
    if body["action"] == RESET_SPENT and spent is not None and spent["unit"] != amount["unit"]:
        raise invalid("spent", f"is in {spent['unit']}, not in {amount['unit']} as amount is")
    tenant_id = given(body["filter"], "tenant_id")
    if not tenant_id:
        raise invalid("filter.tenant_id", "must not be blank")
    refuse_blank(body["filter"], "scope_prefix", "search")
    await find_tenant(store, tenant_id)
    query = _query(body["filter"])

    async def matches() -> Sequence[tuple[str, Body]]:
        return [
            (ledger_id or f"{scope}:{unit}", {"scope": scope, "unit": unit, "ledger_id": ledger_id})
            for scope, unit, ledger_id in await budgets_asked_for(store, tenant_id, query)
        ]

    async def act(ledger: Body, run: str) -> None:
        if ledger["unit"] != amount["unit"]:
            unit = ledger["unit"]
            raise Refusal("UNIT_MISMATCH", f"The budget is in {unit}, not in {amount['unit']}")
        try:
            await fund_row(store, call, tenant_id, ledger, body, run, changeover=changeover)
        except Refusal as refused:
            if refused.code == "NO_DEBT":
                raise RowSkipped from None
            raise

    told = {"amount": amount["amount"], "unit": amount["unit"]}
    if body["action"] == RESET_SPENT:
        told["spent"] = None if spent is None else spent["amount"]
        told["spent_override_provided"] = spent is not None
    action = Action("bulkActionBudgets", tenant_id, "budget", body, matches, act, told)
    return await perform(store, call, action)


def _query(asked: Body) -> dict[str, Any]:
    """The filter as listBudgets reads it, whose numbers are as they were written."""
    query = dict(asked)
    for name in ("utilization_min", "utilization_max"):
        value = asked.get(name)
        if value is not None:
            query[name] = Number(str(value))
    return query
