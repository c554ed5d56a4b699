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
from cycles_server.governance.listing.records import read_bodies
from cycles_server.governance.tenants import tenant_body
from cycles_server.paging.cursors import Place
from cycles_server.paging.members import MembersWalk
from cycles_server.store.store import Store

_KIND = "tenants"
_SORT_KEYS: Mapping[str, SortKey[Body]] = {
    **{name: text_key(name) for name in ("tenant_id", "name", "status")},
    "created_at": instant_key("created_at"),
}


async def tenant_page(store: Store, query: Mapping[str, Any]) -> Body:
    """TenantListResponse: by id, unless another order is asked for.

    Args:
        query: of listTenants, validated.

    Raises:
        Refusal: 400 for a cursor that is none, or of another list.
        StoreError: the store failed.
    """
    exact = {
        name: query[name] for name in ("status", "parent_tenant_id") if query.get(name) is not None
    }
    search = search_in(query)

    async def look(batch: Sequence[Place]) -> list[tuple[Place, Body]]:
        rows = await read_bodies(
            store, batch, lambda p: store.keys.tenant(p[1]).record, tenant_body
        )
        return [
            (place, body)
            for place, body in rows
            if all(body.get(name) == value for name, value in exact.items())
            and contains(search, body["tenant_id"], body["name"])
        ]

    return await list_page(
        read_list_query(query, _KIND, _SORT_KEYS, "created_at"),
        _KIND,
        "tenants",
        [exact, search],
        walk=lambda after: tenants_walk(store, after),
        look=look,
        body_of=lambda body: body,
        sort_keys=_SORT_KEYS,
        id_of=lambda body: str(body["tenant_id"]),
    )


def tenants_walk(store: Store, after: Place | None = None) -> MembersWalk:
    """Walks all tenants by id; a place is an empty text and the id."""
    return MembersWalk(store, lambda _: store.keys.listed_tenants, [""], after=after)
