"""The list of API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cycles_server.governance.api_keys import key_body
from cycles_server.governance.listing.owned import owned_walk
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
from cycles_server.paging.cursors import Place
from cycles_server.paging.pages import ByteLimit
from cycles_server.paging.queries import given
from cycles_server.store.clock import now_ms
from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

_KIND = "api-keys"
_SORT_KEYS: Mapping[str, SortKey[JsonRow]] = {
    **{name: text_key(name) for name in ("key_id", "name", "tenant_id", "status")},
    **{name: instant_key(name) for name in ("created_at", "expires_at")},
}


async def key_page(store: Store, query: Mapping[str, Any], most_bytes: int) -> Body:
    """ApiKeyListResponse: by tenant and id, unless another order is asked for.

    Args:
        query: of listApiKeys, validated.
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for a cursor that is none, or of another list.
        StoreError: the store failed.
    """
    tenant = given(query, "tenant_id") or None
    status, search = query.get("status"), search_in(query)
    asked = read_list_query(query, _KIND, _SORT_KEYS, "created_at")
    now = await now_ms(store, bulk=True)

    def key_of(place: Place) -> str:
        owner, key_id = place
        return store.keys.tenant(owner).api_key(key_id)

    def is_asked_for(place: Place, body: Body) -> bool:
        return (
            body["tenant_id"] == place[0]
            and status in (None, body["status"])
            and contains(search, body["key_id"], body.get("name"))
        )

    async def look(batch: Sequence[Place], room: ByteLimit | None) -> list[tuple[Place, JsonRow]]:
        return await read_rows(
            store, batch, key_of, lambda record: key_body(record, now), is_asked_for, room
        )

    return await list_page(
        asked,
        _KIND,
        "keys",
        [tenant, status, search],
        walk=lambda after: owned_walk(store, tenant, TenantKeys.api_keys, after),
        look=look,
        body_of=lambda row: row.body,
        sort_keys=_SORT_KEYS,
        id_of=lambda row: str(row.body["key_id"]),
        most_bytes=most_bytes,
        size_of=lambda row: row.size,
    )
