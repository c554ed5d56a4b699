"""The keys that verify evidence, as a JWK Set (contract: CyclesEvidenceJwks)."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from cycles_server.jsontext import INT64_MAX, INT64_MIN

logger = logging.getLogger(__name__)

_RAW_KEY = re.compile(r"[0-9a-fA-F]{64}")
_KID_LENGTH = 16

JsonObject = dict[str, Any]

Span = tuple[int, int]
"""Validity in epoch ms: the start inclusive, the end exclusive."""


def jwk_set(signer_did: str, kid: str, nbf_ms: int, retired: Sequence[Any]) -> JsonObject | None:
    """The active key and those before it; None where there is no raw key to publish.

    A key's window must single it out for each envelope, so the active one begins no earlier
    than the last retired one ends, and a retired entry that would make the choice ambiguous, or
    that cannot be read, is left out and logged.

    Args:
        signer_did: the active public key, 64 hex digits.
        kid: its id; empty for the first 16 of those digits.
        nbf_ms: start of its validity, epoch ms.
        retired: objects with ``signer_did, kid, nbf_ms, exp_ms``.
    """
    signer_did = signer_did.strip()
    if _RAW_KEY.fullmatch(signer_did) is None:
        return None
    entries = [entry if isinstance(entry, dict) else {} for entry in retired]
    ends = [entry["exp_ms"] for entry in entries if _is_ms(entry.get("exp_ms"))]
    active = _jwk(signer_did, kid, max([nbf_ms, *ends]))
    active["status"] = "active"
    keys = [active]
    kids = {active["kid"]}
    spans: dict[str, list[Span]] = {}
    for place, entry in enumerate(entries):
        key, why = _retired_jwk(entry, kids, spans)
        if key is None:
            logger.warning("EVIDENCE_SIGNING_RETIRED_KEYS[%d] is left out: %s", place, why)
            continue
        keys.append(key)
    return {"keys": keys}


def _retired_jwk(
    entry: dict[str, Any], kids: set[str], spans: dict[str, list[Span]]
) -> tuple[JsonObject | None, str]:
    """A retired key, or why it cannot be published; takes note of what is published."""
    signer_did, kid = entry.get("signer_did"), entry.get("kid")
    start, end = entry.get("nbf_ms"), entry.get("exp_ms")
    if not isinstance(signer_did, str) or _RAW_KEY.fullmatch(signer_did.strip()) is None:
        return None, "signer_did is not 64 hex digits"
    if kid is not None and not isinstance(kid, str):
        return None, "kid is not a text"
    if not _is_ms(start) or not _is_ms(end) or start >= end:
        return None, "nbf_ms and exp_ms are no window"
    jwk = _jwk(signer_did.strip(), kid or "", start)
    taken = spans.setdefault(jwk["x"], [])
    if jwk["kid"] in kids:
        return None, "its kid is another key's"
    if any(start < other_end and other_start < end for other_start, other_end in taken):
        return None, "the same key is published for an overlapping window"
    kids.add(jwk["kid"])
    taken.append((start, end))
    return {**jwk, "cycles_exp_ms": end, "status": "retired"}, ""


def _jwk(signer_did: str, kid: str, start: int) -> JsonObject:
    raw = bytes.fromhex(signer_did)
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
        "kid": kid.strip() or raw.hex()[:_KID_LENGTH],
        "cycles_nbf_ms": start,
    }


def _is_ms(value: Any) -> TypeGuard[int]:
    return type(value) is int and INT64_MIN <= value <= INT64_MAX
