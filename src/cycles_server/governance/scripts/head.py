"""``lua/lib/mutation.lua``: what governance's scripts are asked first."""

from __future__ import annotations

from typing import NamedTuple


class HeadKeys(NamedTuple):
    """The first KEYS."""

    key_record: str
    tenant_record: str
    audit_record: str
    audit_of_tenant: str
    audit_of_all: str


class HeadArguments(NamedTuple):
    """The first ARGV."""

    verified_key: bytes
    verified_tenant: bytes
    key_valid_until: str
    tenant: str
    owner_rule: str
    audit_id: str
    audit_members: bytes
    audit_facts: bytes
    audit_kept_ms: int
