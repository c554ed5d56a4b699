"""Twins: a large set's members once more, as a sorted set that can be walked in order.

The sets that say what there is (tenants, a tenant's budgets, keys, policies) have no order, and
other servers add to them. So a list that meets a large one makes its twin and compares the two
numbers of members before each page. Where they differ, the twin is brought up to date in steps that
hold neither Redis nor this process for long. One member that came and one that went leave the
numbers as they were: a background job compares the members themselves (``jobs/twin_upkeep.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from cycles_server.store.keys import Listed
from cycles_server.store.link import Reply
from cycles_server.store.store import Store

NAME = "align_twin"
"""The script; its KEYS and ARGV are :class:`Keys` and :class:`Arguments`."""

SMALL = 250
"""A set of so many members, or fewer, is read whole and needs no twin."""
_ADD, _DROP = "ADD", "DROP"
_AT_ONCE = 250


class Keys(NamedTuple):
    members: str
    twin: str


class Arguments(NamedTuple):
    task: str
    cursor: str
    at_once: int


class Step(NamedTuple):
    """Where the next step goes on (``0`` behind the last), how many members this one added or
    dropped, and how many more the set has than the twin."""

    cursor: str
    changed: int
    lacking: int


def read(answer: Reply) -> Step:
    """The answer by name."""
    cursor, changed, lacking = answer
    return Step(cursor.decode(), changed, lacking)


async def align(store: Store, tenant: str, listed: Listed) -> None:
    """Bring a twin up to date if it has another number of members than its set.

    Args:
        tenant: whose the set is, empty for nobody's.

    Raises:
        StoreError: the store failed, or takes no writes.
    """
    members, twins = await asyncio.gather(
        store.read_bulk("SCARD", listed.members), store.read_bulk("ZCARD", listed.twin)
    )
    if members == twins:
        return
    # To the end: on the way the numbers may be the same while both lack something.
    async for step in _steps(store, tenant, listed, _ADD):
        lacking = step.lacking
    if lacking:
        async for step in _steps(store, tenant, listed, _DROP):
            if not step.lacking:
                return


async def compare(store: Store, tenant: str, listed: Listed, pause_s: float) -> int:
    """Compare a twin with its set, member by member; returns how many were added or dropped.

    Args:
        pause_s: between two steps, so that the work leaves room for requests.

    Raises:
        StoreError: the store failed; what was done stays.
    """
    changed = 0
    for task in (_ADD, _DROP):
        async for step in _steps(store, tenant, listed, task):
            changed += step.changed
            await asyncio.sleep(pause_s)
    return changed


async def _steps(store: Store, tenant: str, listed: Listed, task: str) -> AsyncIterator[Step]:
    cursor = "0"
    while True:
        arguments = Arguments(task=task, cursor=cursor, at_once=_AT_ONCE)
        step = read(await store.call(tenant, NAME, Keys(*listed), arguments, bulk=True))
        yield step
        cursor = step.cursor
        if cursor == "0":
            return
