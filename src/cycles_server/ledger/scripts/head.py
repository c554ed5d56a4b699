"""``lua/lib/call.lua``: what the ledger's scripts are asked first, and what each may answer."""

from __future__ import annotations

from typing import NamedTuple


class HeadKeys(NamedTuple):
    """The first KEYS."""

    key_record: str
    tenant_record: str


class HeadArguments(NamedTuple):
    """The first ARGV."""

    verified_key: bytes
    verified_tenant: bytes
    key_valid_until: str
    tenant: str
    tenant_guard: str


class NoBudget(NamedTuple):
    """No scope has a budget in the asked unit."""


NO_BUDGET = b"NO_BUDGET"
FOREIGN = b"FOREIGN"
