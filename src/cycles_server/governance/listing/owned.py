"""What tenants own: walks over one tenant's or everybody's, tenant after tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cycles_server.governance.listing.tenants import tenants_walk
from cycles_server.paging.cursors import Place
from cycles_server.paging.members import MembersWalk
from cycles_server.paging.walks import Span
from cycles_server.store.keys import Listed, TenantKeys
from cycles_server.store.store import Store


def owned_walk(
    store: Store,
    tenant: str | None,
    members: Callable[[TenantKeys], str],
    after: Place | None,
    spans: Callable[[str], Sequence[Span]] = lambda _: (),
) -> MembersWalk:
    """Walks what a tenant owns; a place is the tenant and the member of its set.

    Args:
        tenant: None for all of them, by their ids.
        members: the name of a tenant's set.
        after: start behind this place.
        spans: where to look in a tenant's set.
    """

    def walk(first: Sequence[str], more: MembersWalk | None) -> MembersWalk:
        def listed(owner: str) -> Listed:
            names = store.keys.tenant(owner)
            return names.listed(members(names))

        return MembersWalk(store, listed, first, more=more, spans=spans, after=after)

    if tenant is not None:
        return walk([tenant], None)
    if after is None:
        return walk([], tenants_walk(store))
    return walk([after[0]], tenants_walk(store, ("", after[0])))
