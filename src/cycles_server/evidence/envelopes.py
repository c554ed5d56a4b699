"""Signed evidence envelopes, as they were stored."""

from __future__ import annotations

from typing import Any

import orjson

from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt
from cycles_server.store.store import Store


async def read_envelope(store: Store, prefix: str, evidence_id: str) -> tuple[bytes, Any]:
    """An envelope's stored bytes, and what they say.

    Nothing may change them on the way out: their hash is the id, and they are signed.

    Args:
        prefix: what comes before the id in the key (setting ``EVIDENCE_STORE_KEY_PREFIX``).

    Raises:
        Refusal: 404 while there is none; it may still be on its way (contract: getEvidence).
        StoreError: the store failed, or the record is not JSON.
    """
    stored: bytes | None = await store.read("GET", store.keys.evidence(prefix, evidence_id))
    if stored is None:
        raise Refusal("NOT_FOUND", f"There is no evidence {evidence_id}, or not yet")
    try:
        return stored, orjson.loads(stored)
    except orjson.JSONDecodeError:
        raise StoreCorrupt(f"evidence {evidence_id} is not JSON") from None
