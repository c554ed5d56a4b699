"""A tenant's index of reservations: ids in the order of creation."""

from __future__ import annotations

from cycles_server.store.keys import TenantKeys
from cycles_server.store.store import Store

Position = tuple[int, str]
"""When a reservation was created (epoch ms), and its id."""

STEP = 250
"""How many rows a long walk looks at before others get their turn."""
_SPARE = 16
"""Room for rows that share a millisecond with the last one seen."""


class IndexWalk:
    """Walks an index by creation time in bounded steps.

    Each step starts from the last row seen, not from a rank: whatever is added or removed on
    the way, a row that is there throughout is seen exactly once.

    Args:
        lowest, highest: inclusive bounds on the creation time, epoch ms; None is open.
        after: start behind this position.
    """

    def __init__(
        self,
        store: Store,
        names: TenantKeys,
        *,
        newest_first: bool,
        lowest: int | None = None,
        highest: int | None = None,
        after: Position | None = None,
    ) -> None:
        self._store = store
        self._index = names.index
        self._newest_first = newest_first
        self._lowest = lowest
        self._highest = highest
        self._after = after
        self._ended = False

    async def step(self, count: int) -> list[Position]:
        """At least one and at most ``count`` further positions; none at the end.

        Raises:
            StoreError: the store failed.
        """
        # The last row seen is read again, and all that share its millisecond.
        asked = count if self._after is None else count + _SPARE
        while not self._ended:
            entries = await self._read(asked)
            fresh = [entry for entry in entries if self._is_ahead(entry)]
            self._ended = len(entries) < asked and len(fresh) <= count
            if fresh:
                self._after = fresh[:count][-1]
                return fresh[:count]
            asked *= 2
        return []

    def _is_ahead(self, entry: Position) -> bool:
        if self._after is None:
            return True
        return entry < self._after if self._newest_first else entry > self._after

    async def _read(self, count: int) -> list[Position]:
        low: int | str = "-inf" if self._lowest is None else self._lowest
        high: int | str = "+inf" if self._highest is None else self._highest
        if self._after is not None:
            # A cursor may have been made with other bounds: the narrower ones count.
            created = self._after[0]
            if self._newest_first:
                high = created if self._highest is None else min(created, self._highest)
            else:
                low = created if self._lowest is None else max(created, self._lowest)
        span = (high, low, "BYSCORE", "REV") if self._newest_first else (low, high, "BYSCORE")
        reply = await self._store.read_bulk(
            "ZRANGE", self._index, *span, "LIMIT", 0, count, "WITHSCORES"
        )
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [(int(float(score)), row.decode()) for row, score in pairs]
