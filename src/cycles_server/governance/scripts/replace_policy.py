"""``lua/replace_policy.lua``: write a changed policy, unless somebody else has changed it."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.governance.scripts.replace_record import read as read

NAME = "replace_policy"


class Keys(NamedTuple):
    policy_record: str
    policies: str


class Arguments(NamedTuple):
    policy_prefix: str
    policy_id: str
    name: str
    expected: bytes
    replacement: bytes
