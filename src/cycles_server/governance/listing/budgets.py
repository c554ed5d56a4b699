"""Lists of budgets: listBudgets, and a tenant's balances."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from cycles_server.governance.ledgers import FIELDS, fields_row
from cycles_server.governance.listing.budget_filters import BudgetFilter, Ledger, read_filter
from cycles_server.governance.listing.owned import owned_walk
from cycles_server.governance.listing.pages import Body, SortKey, list_page, read_list_query
from cycles_server.paging.cursors import Place
from cycles_server.paging.pages import ByteLimit
from cycles_server.paging.queries import given
from cycles_server.paging.walks import STEP, Span, Walk
from cycles_server.scopes import UNITS, counts_for
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

_BUDGETS, _BALANCES = "budgets", "ledgers"
_FINER_THAN_ANY = 128
"""Two shares of int64 amounts that differ do so by more than 2^-126."""


def _utilization(ledger: Ledger) -> int:
    """Rounded to what still tells any two apart, so that it sorts exactly."""
    spent, allocated = ledger.amount("spent"), ledger.amount("allocated")
    return (spent << _FINER_THAN_ANY) // allocated if allocated else 0


_SORT_KEYS: Mapping[str, SortKey[Ledger]] = {
    "tenant_id": SortKey(str, lambda ledger: ledger.tenant),
    "scope": SortKey(str, lambda ledger: ledger.scope),
    "unit": SortKey(str, lambda ledger: ledger.unit),
    "status": SortKey(str, lambda ledger: ledger.status),
    "commit_overage_policy": SortKey(
        str, lambda ledger: ledger.row.get("commit_overage_policy") or None
    ),
    "utilization": SortKey(int, _utilization),
    "debt": SortKey(int, lambda ledger: ledger.amount("debt")),
}


async def budget_page(
    store: Store,
    tenant: str | None,
    query: Mapping[str, Any],
    scope_filter: tuple[str, ...] = (),
    *,
    most_bytes: int,
) -> Body:
    """BudgetListResponse: by tenant and stored name, unless another order is asked for.

    Args:
        tenant: whose; None for the one that the query names, or else everybody's.
        query: of listBudgets, validated.
        scope_filter: what the caller's key is limited to.
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for bounds that are none, or a cursor that is none or of another list.
        StoreError: the store failed, or a budget that belongs on the page cannot be read.
    """
    whose = tenant or given(query, "tenant_id") or None
    return await _page(
        store, whose, query, scope_filter, _BUDGETS, "ledgers", _SORT_KEYS, most_bytes
    )


async def balances_page(
    store: Store,
    tenant: str,
    query: Mapping[str, Any],
    scope_filter: tuple[str, ...],
    most_bytes: int,
) -> Body:
    """BalanceListResponse of the governance contract: a tenant's whole ledgers by stored name.

    Raises:
        Refusal: 400 for a cursor that is none, or of another list.
        StoreError: the store failed, or a budget that belongs on the page cannot be read.
    """
    return await _page(store, tenant, query, scope_filter, _BALANCES, "balances", {}, most_bytes)


async def budgets_asked_for(
    store: Store, tenant: str, query: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Scope, unit and id of every budget of a tenant that the filters of listBudgets ask for. One
    that cannot be read is asked for if its name is; its id may be empty.

    Raises:
        Refusal: 400 for bounds that are none.
        StoreError: the store failed.
    """
    asked = read_filter(query, ())
    walk = _walk(store, tenant, asked, None)
    found: list[tuple[str, str, str]] = []
    while batch := await walk.step(STEP):
        looked_at = await _looked_at(store, batch, asked)
        found += [(ledger.scope, ledger.unit, ledger.id) for _, ledger, _ in looked_at]
    return found


def _walk(store: Store, tenant: str | None, asked: BudgetFilter, after: Place | None) -> Walk:
    def spans(owner: str) -> Sequence[Span]:
        return _spans(store.keys.tenant(owner), asked.scope_prefix)

    return owned_walk(store, tenant, lambda owner: owner.budgets, after, spans)


async def _page(
    store: Store,
    tenant: str | None,
    query: Mapping[str, Any],
    scope_filter: tuple[str, ...],
    kind: str,
    member: str,
    sort_keys: Mapping[str, SortKey[Ledger]],
    most_bytes: int,
) -> Body:
    asked = read_filter(query, scope_filter)

    async def look(batch: Sequence[Place], room: ByteLimit | None) -> list[tuple[Place, Ledger]]:
        return await _read(store, batch, asked, room)

    return await list_page(
        read_list_query(query, kind, sort_keys, "utilization"),
        kind,
        member,
        [tenant, *asked.as_json()],
        walk=lambda after: _walk(store, tenant, asked, after),
        look=look,
        body_of=Ledger.body,
        sort_keys=sort_keys,
        id_of=Ledger.tie,
        most_bytes=most_bytes,
        size_of=Ledger.size,
    )


def _spans(names: TenantKeys, scope: str) -> Sequence[Span]:
    """Where in a tenant's set the budgets at a scope and below it are: keys that go on with a
    slash, or with the colon before the unit. What goes on otherwise is another scope's."""
    if not scope:
        return ()
    key = names.budget_prefix + scope
    return [(f"{key}{mark}", key + chr(ord(mark) + 1)) for mark in "/:"]


async def _read(
    store: Store, batch: Sequence[Place], asked: BudgetFilter, room: ByteLimit | None
) -> list[tuple[Place, Ledger]]:
    """Those of a batch that are there, are the tenant's, are asked for, and fit.

    Raises:
        StoreError: the store failed, or one cannot be read: to leave money out would be silent.
    """
    rows = []
    for place, ledger, error in await _looked_at(store, batch, asked):
        if error is not None:
            raise error
        if room is not None and not room.admits(ledger.size()):
            break
        rows.append((place, ledger))
    return rows


async def _looked_at(
    store: Store, batch: Sequence[Place], asked: BudgetFilter
) -> list[tuple[Place, Ledger, StoreCorrupt | None]]:
    """Those of a batch that are there, are the tenant's and are asked for; of one that cannot be
    read, why.

    Raises:
        StoreError: the store failed.
    """
    named = []
    for place in batch:
        tenant, key = place
        scope, unit = store.keys.tenant(tenant).scope_and_unit(key)
        if asked.admits_name(tenant, scope, unit):
            named.append((place, scope, unit))
    replies = await asyncio.gather(
        *(store.read_bulk("HMGET", place[1], *FIELDS) for place, _, _ in named),
        return_exceptions=True,
    )
    rows: list[tuple[Place, Ledger, StoreCorrupt | None]] = []
    for (place, scope, unit), reply in zip(named, replies, strict=True):
        tenant, key = place
        if isinstance(reply, StoreCorrupt):
            error = StoreCorrupt(f"{scope} in {unit}: {reply}")
            rows.append((place, Ledger(tenant, key, scope, unit, {}), error))
            continue
        if isinstance(reply, BaseException):
            raise reply
        row = fields_row(reply)
        if not row or not counts_for(tenant, row.get("tenant_id", ""), scope):
            continue
        ledger = Ledger(tenant, key, scope, unit, row)
        try:
            if unit not in UNITS:
                raise StoreCorrupt(f"{scope} in {unit}: unknown unit")
            if asked.admits_row(ledger):
                rows.append((place, ledger, None))
        except StoreCorrupt as error:
            rows.append((place, ledger, error))
    return rows
