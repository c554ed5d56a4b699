"""The list of a tenant's policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cycles_server.auth.scopefilter import admits
from cycles_server.governance.listing.owned import owned_walk
from cycles_server.governance.listing.pages import Body, list_page, read_list_query
from cycles_server.governance.listing.records import JsonRow, read_rows
from cycles_server.governance.policies import policy_body
from cycles_server.paging.cursors import Place
from cycles_server.paging.pages import ByteLimit
from cycles_server.paging.queries import given
from cycles_server.scopes import lower_case
from cycles_server.store.store import Store

_KIND = "policies"


async def policy_page(
    store: Store,
    tenant: str,
    query: Mapping[str, Any],
    scope_filter: tuple[str, ...],
    most_bytes: int,
) -> Body:
    """PolicyListResponse: by id.

    Args:
        query: of listPolicies, validated.
        scope_filter: what the caller's key is limited to.
        most_bytes: stored bytes after which the page ends, before its limit of rows.

    Raises:
        Refusal: 400 for a cursor that is none, or of another list.
        StoreError: the store failed.
    """
    pattern, status = given(query, "scope_pattern").strip(), query.get("status")
    names = store.keys.tenant(tenant)

    def is_asked_for(_: Place, body: Body) -> bool:
        scope: str = body["scope_pattern"]
        # Patterns of other servers may be in any case.
        return (
            (not pattern or lower_case(scope) == lower_case(pattern))
            and status in (None, body["status"])
            and admits(scope_filter, lower_case(scope))
        )

    def key_of(place: Place) -> str:
        return names.policy(place[1])

    async def look(batch: Sequence[Place], room: ByteLimit | None) -> list[tuple[Place, JsonRow]]:
        return await read_rows(store, batch, key_of, policy_body, is_asked_for, room)

    return await list_page(
        read_list_query(query, _KIND, {}),
        _KIND,
        "policies",
        [tenant, pattern, status, scope_filter],
        walk=lambda after: owned_walk(store, tenant, lambda names: names.policies, after),
        look=look,
        body_of=lambda row: row.body,
        sort_keys={},
        id_of=lambda row: str(row.body["policy_id"]),
        most_bytes=most_bytes,
        size_of=lambda row: row.size,
    )
