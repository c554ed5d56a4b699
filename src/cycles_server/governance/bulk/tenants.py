"""bulkActionTenants: suspend, take back or close each tenant that matches."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from cycles_server.auth.records import iso_instant
from cycles_server.governance.bulk.runs import (
    INVALID_TRANSITION,
    Action,
    Body,
    RowSkipped,
    perform,
    refuse_blank,
)
from cycles_server.governance.call import ANY_OWNER, Call, Change
from cycles_server.governance.closing.cascade import begin_close
from cycles_server.governance.closing.closings import Closings
from cycles_server.governance.listing.tenants import tenant_page
from cycles_server.governance.records import Record, change_record, replacing
from cycles_server.governance.tenants import ACTIVE, CLOSED, SUSPENDED, no_such_tenant, turn
from cycles_server.paging.queries import given
from cycles_server.refusal import Refusal, invalid
from cycles_server.store.store import Store

_NAME = "bulkActionTenants"
_ADMIN = "__admin__"
"""Under this name entries are filed that are of no single tenant."""
_PAGE, _PAGE_BYTES = 100, 1 << 20
"""Rows that are looked at together, and stored bytes of them."""
_CLOSE_WAIT_S = 20.0
_TARGETS = {"SUSPEND": SUSPENDED, "REACTIVATE": ACTIVE}


async def bulk_action_tenants(store: Store, call: Call, closings: Closings, body: Body) -> bytes:
    """The TenantBulkActionResponse, as JSON.

    Args:
        body: TenantBulkActionRequest.

    Raises:
        Refusal: 400 for a filter that would match every tenant; see :func:`perform`.
        StoreError: see :func:`perform`.
    """
    asked = body["filter"]
    if not any(given(asked, name) for name in ("status", "parent_tenant_id", "search")):
        raise invalid("filter", "must name a status, a parent_tenant_id or a text to search for")
    refuse_blank(asked, "search")

    async def matches() -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        cursor = ""
        while True:
            page = await tenant_page(
                store, {"limit": _PAGE, **asked, "cursor": cursor}, _PAGE_BYTES
            )
            found += [(tenant["tenant_id"], tenant["tenant_id"]) for tenant in page["tenants"]]
            if not page["has_more"]:
                return found
            cursor = page["next_cursor"]

    async def act(tenant_id: str, run: str) -> None:
        row = store.keys.tenant(tenant_id).bulk_row(_NAME, run)
        # By this very run, before it was broken off: what became of it since is another's doing.
        is_done = await store.read("EXISTS", row)
        if body["action"] != "CLOSE":
            if not is_done:
                await _set_status(store, call, tenant_id, _TARGETS[body["action"]], row)
            return
        try:
            await _close(store, call, closings, tenant_id, row)
        except RowSkipped:
            if not is_done:
                raise

    return await perform(store, call, Action(_NAME, _ADMIN, "tenant", body, matches, act))


async def _set_status(store: Store, call: Call, tenant_id: str, status: str, row: str) -> None:
    def changed(record: Record, now: int) -> Change:
        before = record.get("status")
        if before == status:
            raise RowSkipped
        if before == CLOSED:
            raise Refusal(INVALID_TRANSITION, "The tenant is CLOSED, and stays so")
        turn(record, status, iso_instant(now))
        return Change(_NAME, "tenant", tenant_id, silent=True)

    await change_record(
        store,
        call,
        tenant_id,
        store.keys.tenant(tenant_id).record,
        changed,
        absent=no_such_tenant(tenant_id),
        owner=ANY_OWNER,
        writing=functools.partial(replacing, row=row),
    )


async def _close(store: Store, call: Call, closings: Closings, tenant_id: str, row: str) -> None:
    turned = await begin_close(store, call, tenant_id, {}, row=row)
    converged = await closings.settle(tenant_id, within_s=_CLOSE_WAIT_S)
    if converged is None:
        return  # closed; what is left follows
    if converged.failed:
        raise Refusal(
            "INTERNAL_ERROR",
            f"The tenant is CLOSED; {len(converged.failed)} of its objects could not be ended",
        )
    if not turned.is_new and not converged.ended.total():
        raise RowSkipped
