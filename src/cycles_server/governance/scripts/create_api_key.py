"""``lua/create_api_key.lua``: write an API key's record and what leads to it."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "create_api_key"


class Keys(NamedTuple):
    key_record_made: str
    tenant_keys: str
    tenant_keys_twin: str
    lookup: str


class Arguments(NamedTuple):
    key_id: str
    record: bytes
    lookup_value: str


def read(answer: Reply) -> bool:
    """Whether it is written; else another key has its id, or begins like it."""
    return bool(answer[0] == b"CREATED")
