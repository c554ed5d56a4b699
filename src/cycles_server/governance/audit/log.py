"""The audit log: searched by what its entries tell, page by page.

A page in the order of time is gathered along the index. It is given as it is, short or empty but
with a cursor, after :data:`MOST_EXAMINED` entries; the same holds where a page of few matches would
need to look at more. Any other order needs the whole walk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cycles_server.governance.audit.entries import (
    Entry,
    entry_body,
    moment_of,
    read_entry,
    status_in,
    text_in,
)
from cycles_server.paging.cursors import (
    Cursor,
    Place,
    fingerprint,
    malformed_cursor,
    read_cursor,
)
from cycles_server.paging.pages import ByteLimit, Page, cut_page, page_along, page_body, ranked_page
from cycles_server.paging.queries import DEFAULT_LIMIT, Order, given, order_in, read_order
from cycles_server.paging.walks import STEP, IndexWalk, MergedWalk
from cycles_server.paging.windows import Moment, read_bound
from cycles_server.refusal import invalid
from cycles_server.store.keys import BucketKeys
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

MOST_EXAMINED = 5_000
"""After so many entries a page in the order of time is given as it is."""

_KIND = "audit"
_LONGEST_PAGE = 100
_ALL = "_all"
"""The index of all entries is named as if it were a tenant's; there is no such tenant."""

_EXACT = ("key_id", "resource_id", "request_id", "trace_id")
_SEARCHED = ("resource_id", "log_id", "error_code", "operation")
_BEYOND_ALL_STATUSES = 2**31 - 1

Test = Callable[[Entry], bool]


class Row(NamedTuple):
    """An entry as it is stored, and its place in the index."""

    stored: bytes
    place: Place


class SortKey(NamedTuple):
    """What entries can be sorted by: the type of the values, and the value of one. One that has
    none is the last in ascending order."""

    type: type
    value_of: Callable[[Entry], Any]


def _by_text(name: str) -> SortKey:
    def value_of(entry: Entry) -> str:
        value = text_in(entry, name)
        return "1" if value is None else f"0{value}"

    return SortKey(str, value_of)


def _status_or_last(entry: Entry) -> int:
    status = status_in(entry)
    return _BEYOND_ALL_STATUSES if status is None else status


TIMESTAMP = "timestamp"
_RANKED: Mapping[str, SortKey] = {
    "operation": _by_text("operation"),
    "resource_type": _by_text("resource_type"),
    "tenant_id": _by_text("tenant_id"),
    "key_id": _by_text("key_id"),
    "status": SortKey(int, _status_or_last),
}
SORT_KEYS = (TIMESTAMP, *_RANKED)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What a list asks for.

    Attributes:
        tenant: exactly whose; empty for everybody's.
        tests: what an entry must pass, all of them.
        lower, upper: inclusive bounds on the time.
        asked: all that a cursor is bound to but the order, as a JSON value.
    """

    tenant: str
    tests: Sequence[Test]
    lower: Moment | None
    upper: Moment | None
    order: Order
    limit: int
    cursor: Cursor | None
    asked: Any

    def admits(self, entry: Entry, at_ms: int) -> bool:
        """Whether an entry is asked for; ``at_ms``: its place in the index."""
        if self.tenant and text_in(entry, "tenant_id") != self.tenant:
            return False
        if not all(test(entry) for test in self.tests):
            return False
        if self.lower is None and self.upper is None:
            return True
        moment = moment_of(entry, at_ms)
        return (self.lower is None or self.lower <= moment) and (
            self.upper is None or moment <= self.upper
        )


def read_audit_query(query: Mapping[str, Any]) -> AuditQuery:
    """Read the validated query of listAuditLogs. What is blank counts as not given.

    Raises:
        Refusal: 400 for a time that is none, an exact status beside a range, a range that is none,
            or a malformed cursor.
    """
    asked: dict[str, Any] = {"tenant_id": given(query, "tenant_id")}
    tests: list[Test] = []
    for name in _EXACT:
        value = asked[name] = given(query, name)
        if value:
            tests.append(_is_one_of(name, {value}))
    for name in ("operation", "resource_type", "error_code"):
        values = asked[name] = _listed(query, name)
        if values:
            tests.append(_is_one_of(name, set(values)))
    excluded = asked["error_code_exclude"] = _listed(query, "error_code_exclude")
    if excluded:
        tests.append(_is_none_of("error_code", set(excluded)))
    least, most = asked["status"] = _statuses(query)
    if least is not None or most is not None:
        tests.append(_has_status(least, most))
    search = asked["search"] = given(query, "search").lower()
    if search:
        tests.append(_contains(search))
    lower, upper = read_bound(query, "from"), read_bound(query, "to")
    asked["window"] = [bound and list(bound) for bound in (lower, upper)]
    cursor = read_cursor(query, (_KIND,))
    if cursor is not None and cursor.order is None:
        raise malformed_cursor()
    # The cursor holds the order: a client need not repeat it.
    kept = None if cursor is None else order_in(cursor, SORT_KEYS)
    return AuditQuery(
        tenant=asked["tenant_id"],
        tests=tests,
        lower=lower,
        upper=upper,
        order=read_order(query, TIMESTAMP) or kept or (TIMESTAMP, "desc"),
        limit=min(max(query.get("limit", DEFAULT_LIMIT), 1), _LONGEST_PAGE),
        cursor=cursor,
        asked=asked,
    )


async def list_audit_page(store: Store, query: AuditQuery, most_bytes: int) -> dict[str, Any]:
    """AuditLogListResponse: one page.

    Args:
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for a cursor of another order or other filters.
        StoreError: the store failed.
    """
    binding = fingerprint(query.order, query.asked)
    by = query.order[0]
    after = None
    if query.cursor is not None:
        after = query.cursor.place(_RANKED[by].type if by in _RANKED else int, binding)
    page = Page[Row]([], None)
    if query.tenant != _ALL:
        found = await _find(store, query, after)
        page = cut_page(found, ByteLimit(most_bytes), lambda row: len(row.stored))
    # A page may be a megabyte: its entries are read one at a time, and others get their turn.
    bodies = []
    for _, row in page.rows:
        at_ms, log_id = row.place
        bodies.append(entry_body(row.stored, log_id, at_ms))
        await asyncio.sleep(0)
    goes_on = None if page.end is None else Cursor(_KIND, page.end, query.order, binding)
    return page_body("logs", bodies, goes_on)


async def _find(store: Store, query: AuditQuery, after: Place | None) -> Page[Row]:
    by, direction = query.order
    descending = direction == "desc"
    along = by == TIMESTAMP
    # Places have milliseconds; what lies below is looked at in each entry.
    walks = {
        names: IndexWalk(
            store,
            index,
            newest_first=descending if along else True,
            lowest=None if query.lower is None else query.lower.ms,
            highest=None if query.upper is None else query.upper.ms,
            after=after if along else None,
        )
        for names, index in _indexes(store, query.tenant)
    }
    walk = MergedWalk(walks, descending=descending if along else True)

    async def look(batch: Sequence[Place]) -> list[tuple[Place, Row]]:
        found: list[tuple[Place, Row]] = []
        read = await _read(store, walk.sources)
        for place in batch:
            stored = read.get(place)
            if stored is None:
                continue  # it has lapsed
            at_ms, log_id = place
            try:
                entry = read_entry(stored)
            except ValueError as error:
                logger.error("audit entry %s cannot be read: %s", log_id, error)
                continue
            if query.admits(entry, at_ms):
                here = place if along else (_RANKED[by].value_of(entry), log_id)
                found.append((here, Row(stored, place)))
        return found

    if not along:
        return await ranked_page(walk, look, query.limit, descending=descending, after=after)
    filtered = query.tests or query.tenant
    step = STEP if filtered else query.limit + 1
    return await page_along(walk, look, query.limit, step=step, most_examined=MOST_EXAMINED)


def _indexes(store: Store, tenant: str) -> list[tuple[BucketKeys, str]]:
    """The indexes that hold what is asked for, one for each tag of the layout."""
    if tenant:
        names = store.keys.tenant(tenant)
        return [(names, names.audit_tenant_index)]
    return [(bucket, bucket.audit_index) for bucket in store.keys.buckets()]


async def _read(store: Store, places: Mapping[Place, BucketKeys]) -> dict[Place, bytes]:
    """The entries that are there, in one call for each bucket."""
    buckets: dict[BucketKeys, list[Place]] = defaultdict(list)
    for place, names in places.items():
        buckets[names].append(place)
    replies = await asyncio.gather(
        *(
            store.read_bulk("MGET", *(names.audit_entry(log_id) for _, log_id in own))
            for names, own in buckets.items()
        )
    )
    return {
        place: stored
        for own, reply in zip(buckets.values(), replies, strict=True)
        for place, stored in zip(own, reply, strict=True)
        if stored is not None
    }


# -- filters -------------------------------------------------------------------------------------


def _listed(query: Mapping[str, Any], name: str) -> list[str]:
    """The values of a list, each once, in an order of their own."""
    return sorted({value.strip() for value in query.get(name, ())} - {""})


def _statuses(query: Mapping[str, Any]) -> tuple[int | None, int | None]:
    exact, least, most = (query.get(name) for name in ("status", "status_min", "status_max"))
    if exact is not None:
        if least is not None or most is not None:
            raise invalid("status", "must not be combined with status_min or status_max")
        return exact, exact
    if least is not None and most is not None and least > most:
        raise invalid("status_min", "must not be above status_max")
    return least, most


def _is_one_of(name: str, values: set[str]) -> Test:
    return lambda entry: text_in(entry, name) in values


def _is_none_of(name: str, values: set[str]) -> Test:
    return lambda entry: text_in(entry, name) not in values


def _has_status(least: int | None, most: int | None) -> Test:
    def has(entry: Entry) -> bool:
        status = status_in(entry)
        return (
            status is not None
            and (least is None or least <= status)
            and (most is None or status <= most)
        )

    return has


def _contains(part: str) -> Test:
    return lambda entry: any(
        part in value.lower() for name in _SEARCHED if (value := text_in(entry, name))
    )
