"""``lua/create_policy.lua``: write a policy under a name that none of its tenant's has."""

from __future__ import annotations

from typing import NamedTuple

from cycles_server.store.link import Reply

NAME = "create_policy"


class Keys(NamedTuple):
    policy_record: str
    policy_owner: str
    policies: str
    policies_twin: str


class Arguments(NamedTuple):
    policy_prefix: str
    policy_id: str
    name: str
    record: bytes


def read(_: Reply) -> None:
    """It is done, and there is nothing to tell."""
