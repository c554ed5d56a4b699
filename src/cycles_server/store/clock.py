"""The ledger's clock: the store's, never the web process's."""

from __future__ import annotations

from collections.abc import Sequence

from cycles_server.store.store import Store

DAY_MS = 86_400_000


async def now_ms(store: Store, *, bulk: bool = False) -> int:
    """The store's time, epoch ms.

    Args:
        bulk: ask on the connection of bulk work.

    Raises:
        StoreError: the store failed.
    """
    return epoch_ms(await (store.read_bulk if bulk else store.read)("TIME"))


def epoch_ms(reply: Sequence[bytes]) -> int:
    """The time in a reply to ``TIME``."""
    seconds, micros = reply
    return int(seconds) * 1000 + int(micros) // 1000
