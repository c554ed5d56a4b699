"""The balances of a tenant's budgets: what a query asks for, and one page of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cycles_server.auth.scopefilter import admits
from cycles_server.jsontext import INT64_MAX, INT64_MIN
from cycles_server.ledger.bodies import Body, balance
from cycles_server.paging.cursors import Cursor, Place, read_cursor
from cycles_server.paging.pages import page_along, page_body
from cycles_server.paging.queries import DEFAULT_LIMIT, asked_segments
from cycles_server.paging.walks import SetWalk
from cycles_server.refusal import invalid
from cycles_server.scopes import LEVELS, UNITS, counts_for
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.keys import TenantKeys
from cycles_server.store.numbers import stored_integer
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

_KIND = "balances"
_FIELDS = (
    "tenant_id",
    "is_over_limit",
    "remaining",
    "reserved",
    "spent",
    "allocated",
    "debt",
    "overdraft_limit",
)

Name = tuple[str, str]
"""A budget's scope and unit, which also is its place in the order."""


@dataclass(frozen=True, slots=True)
class BalanceQuery:
    """What is asked for, but for whose it is.

    Attributes:
        segments: scope segments that a budget's scope must hold.
        scope_filter: what the caller's key is limited to.
        after: the last row of the page before.
    """

    segments: frozenset[str]
    scope_filter: tuple[str, ...]
    limit: int
    after: Name | None

    def admits(self, budget: Name) -> bool:
        """Whether a budget is asked for."""
        scope = budget[0]
        if not self.segments.issubset(scope.split("/")):
            return False
        return not self.scope_filter or admits(self.scope_filter, scope)


def read_balance_query(query: Mapping[str, Any], scope_filter: tuple[str, ...]) -> BalanceQuery:
    """Read the validated query of getBalances. ``include_children`` changes nothing: scopes
    below the ones asked for are always there.

    Raises:
        Refusal: 400 without a subject filter (contract: getBalances, filter), or for a
            malformed cursor.
    """
    wanted = asked_segments(query)
    if not wanted:
        raise invalid("", f"At least one subject filter is required: {', '.join(LEVELS)}")
    cursor = read_cursor(query, (_KIND,))
    return BalanceQuery(
        segments=wanted,
        scope_filter=scope_filter,
        limit=query.get("limit", DEFAULT_LIMIT),
        after=None if cursor is None else (str(cursor.after[0]), cursor.after[1]),
    )


async def balance_page(store: Store, tenant: str, query: BalanceQuery) -> Body:
    """BalanceResponse: one page, ordered by scope and unit.

    The tenant's set of budgets is read whole, their amounts only for the page.

    Raises:
        StoreError: the store failed.
    """
    names = store.keys.tenant(tenant)
    walk = SetWalk(
        store,
        names.budgets,
        place_of=names.scope_and_unit,
        admits=query.admits,
        after=query.after,
    )

    async def look(budgets: Sequence[Place]) -> list[tuple[Place, Body]]:
        return await _read(store, names, budgets)

    page = await page_along(walk, look, query.limit, step=query.limit + 1)
    goes_on = None if page.end is None else Cursor(_KIND, page.end)
    return page_body("balances", [body for _, body in page.rows], goes_on)


async def _read(
    store: Store, names: TenantKeys, budgets: Sequence[Name]
) -> list[tuple[Name, Body]]:
    """The balances of those budgets that are there, are the tenant's, and can be read."""
    replies = await asyncio.gather(
        *(store.read_bulk("HMGET", names.budget(*name), *_FIELDS) for name in budgets),
        return_exceptions=True,
    )
    rows = []
    for name, reply in zip(budgets, replies, strict=True):
        try:
            if isinstance(reply, BaseException):
                raise reply
            body = _balance(names.tenant, name, dict(zip(_FIELDS, reply, strict=True)))
        except StoreCorrupt as error:
            logger.error("budget %s in %s left out of the balances: %s", *name, error)
            continue
        if body is not None:
            rows.append((name, body))
    return rows


def _balance(tenant: str, name: Name, row: Mapping[str, bytes | None]) -> Body | None:
    """A Balance; None for a budget that is gone or another tenant's.

    Raises:
        StoreCorrupt: a unit or amount that the contract does not know.
    """
    scope, unit = name
    if row["remaining"] is None and row["allocated"] is None:
        return None
    owner = (row["tenant_id"] or b"").decode(errors="replace")
    if not counts_for(tenant, owner, scope):
        return None
    if unit not in UNITS:
        raise StoreCorrupt("unknown unit")

    def amount(field: str, default: bytes | None = None, least: int = 0) -> int:
        try:
            value = stored_integer(row[field] or default or b"")
        except ValueError:
            raise StoreCorrupt(f"{field} is not an integer") from None
        if not least <= value <= INT64_MAX:
            raise StoreCorrupt(f"{field} is out of range")
        return value

    debt, limit = amount("debt", b"0"), amount("overdraft_limit", b"0")
    return balance(
        scope,
        unit,
        remaining=str(amount("remaining", least=INT64_MIN)),
        reserved=str(amount("reserved", b"0")),
        spent=str(amount("spent", b"0")),
        allocated=str(amount("allocated")),
        debt=str(debt),
        overdraft_limit=str(limit),
        over=row["is_over_limit"] == b"true" or debt > limit,
    )
