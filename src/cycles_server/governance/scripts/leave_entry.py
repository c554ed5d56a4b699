"""``lua/leave_entry.lua``: an audit entry of a call that changed nothing."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.answers import refused_in
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.link import Reply

NAME = "leave_entry"


class Keys(NamedTuple):
    """None but the head's."""


class Arguments(NamedTuple):
    """None but the head's."""


def read(answer: Reply) -> None:
    """Raises: StoreCorrupt where an index of the entries is damaged; nothing was written."""
    refused = refused_in(answer)
    if refused is not None:
        raise StoreCorrupt(refused.code)
