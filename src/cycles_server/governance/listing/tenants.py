"""The list of tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cycles_server.governance.listing.pages import (
    Body,
    SortKey,
    contains,
    instant_key,
    list_page,
    read_list_query,
    search_in,
    text_key,
)
from cycles_server.governance.listing.records import JsonRow, read_rows
from cycles_server.governance.tenants import tenant_body
from cycles_server.paging.cursors import Place
from cycles_server.paging.members import MembersWalk
from cycles_server.paging.pages import ByteLimit
from cycles_server.store.store import Store

_KIND = "tenants"
_SORT_KEYS: Mapping[str, SortKey[JsonRow]] = {
    **{name: text_key(name) for name in ("tenant_id", "name", "status")},
    "created_at": instant_key("created_at"),
}


async def tenant_page(store: Store, query: Mapping[str, Any], most_bytes: int) -> Body:
    """TenantListResponse: by id, unless another order is asked for.

    Args:
        query: of listTenants, validated.
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for a cursor that is none, or of another list.
        StoreError: the store failed.
    """
    exact = {
        name: query[name] for name in ("status", "parent_tenant_id") if query.get(name) is not None
    }
    search = search_in(query)

    def key_of(place: Place) -> str:
        return store.keys.tenant(place[1]).record

    def is_asked_for(_: Place, body: Body) -> bool:
        return all(body.get(name) == value for name, value in exact.items()) and contains(
            search, body["tenant_id"], body["name"]
        )

    async def look(batch: Sequence[Place], room: ByteLimit | None) -> list[tuple[Place, JsonRow]]:
        return await read_rows(store, batch, key_of, tenant_body, is_asked_for, room)

    return await list_page(
        read_list_query(query, _KIND, _SORT_KEYS, "created_at"),
        _KIND,
        "tenants",
        [exact, search],
        walk=lambda after: tenants_walk(store, after),
        look=look,
        body_of=lambda row: row.body,
        sort_keys=_SORT_KEYS,
        id_of=lambda row: str(row.body["tenant_id"]),
        most_bytes=most_bytes,
        size_of=lambda row: row.size,
    )


def tenants_walk(store: Store, after: Place | None = None) -> MembersWalk:
    """Walks all tenants by id; a place is an empty text and the id."""
    return MembersWalk(store, lambda _: store.keys.listed_tenants, [""], after=after)
