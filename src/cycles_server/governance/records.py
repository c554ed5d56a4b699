"""JSON records: read, and changed so that no two changes at a time lose one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from cycles_server.governance.call import Call, Change, mutate
from cycles_server.governance.scripts import replace_record
from cycles_server.jsontext import stored_members, write_json
from cycles_server.refusal import Refusal
from cycles_server.store.clock import DAY_MS, epoch_ms
from cycles_server.store.errors import StoreCorrupt, StoreUnavailable
from cycles_server.store.link import Argument
from cycles_server.store.store import Store

Record = dict[str, Any]
"""A record's members as they are stored, also those that this server does not know."""

Writing = Callable[[str, bytes, bytes], tuple[str, Sequence[str], Sequence[Argument]]]
"""Which script writes a record in place of another: its name, own keys and own arguments, from the
record's key, the record as it was read, and the one to write. It answers OK, or CHANGED for a
record that is another meanwhile."""


def replacing(key: str, expected: bytes, replacement: bytes, *, row: str = "") -> Any:
    """``lua/replace_record.lua``, which does no more than that.

    Args:
        row: where it is noted as a row of a bulk action; empty for a change by itself.
    """
    keys = replace_record.Keys(record=key, row_record=row or key)
    kept_ms = ROW_KEPT_MS if row else 0
    return replace_record.NAME, keys, replace_record.Arguments(expected, replacement, kept_ms)


ROW_KEPT_MS = DAY_MS
"""How long it is noted that a bulk action has done a row: as long as it can be gone on with, and as
fundings are remembered (``lua/lib/retention.lua``)."""

_ATTEMPTS = 100
"""In each round one of those who change a record at the same time gets through."""


def read_record(key: str, stored: bytes) -> Record:
    """Raises: StoreCorrupt for one that is no JSON object."""
    try:
        return stored_members(stored)
    except ValueError as error:
        raise StoreCorrupt(f"{key} is no record: {error}") from None


def require_texts(body: Record, *names: str) -> None:
    """Raises: StoreCorrupt where a member is no text."""
    for name in names:
        if not isinstance(body.get(name), str):
            raise StoreCorrupt(f"{name} is {body.get(name)!r}")


async def change_record(
    store: Store,
    call: Call,
    tenant: str,
    key: str,
    changed: Callable[[Record, int], Change | None],
    *,
    absent: Refusal,
    owner: str,
    writing: Writing = replacing,
) -> Record:
    """Change a record in place, whoever else does so at the same time.

    Args:
        tenant: whose it is.
        key: of the record.
        changed: gets the record and the store's time (epoch ms), changes it, and says what was
            done; None for nothing. May be asked several times, each time with the record as it is.
        absent: what is refused where there is no such record.
        owner: what the tenant must be (``governance/call.py``).
        writing: the script that writes it.

    Returns:
        The record as it stands.

    Raises:
        Refusal: ``absent``; what ``changed`` refuses; what the owner's state refuses.
        StaleCredential: see :func:`mutate`.
        StoreError: the store failed, the record is damaged, or it never stands still.
    """
    for _ in range(_ATTEMPTS):
        stored, clock = await asyncio.gather(store.read("GET", key), store.read("TIME"))
        if not stored:
            raise absent
        record = read_record(key, stored)
        change = changed(record, epoch_ms(clock))
        if change is None:
            return record
        script, keys, arguments = writing(key, stored, write_json(record))
        answer = await mutate(store, call, tenant, script, keys, arguments, change, owner=owner)
        if replace_record.read(answer):
            return record
    raise StoreUnavailable(f"{key} changes faster than it can be read")
