"""Evidence: signed envelopes and the keys that verify them; public, and therefore braked."""

from __future__ import annotations

from cycles_server.evidence.envelopes import read_envelope
from cycles_server.evidence.jwks import jwk_set
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.http.ratelimit import check_rate
from cycles_server.planes.runtime import Services
from cycles_server.refusal import Refusal

_FOR_EVER = (("cache-control", "public, max-age=31536000, immutable"),)
_FOR_MINUTES = (("cache-control", "public, max-age=300"),)


async def get_evidence(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/evidence/{evidence_id}: the envelope, byte for byte as it was stored."""
    await _brake(exchange, services)
    stored, envelope = await read_envelope(
        services.store,
        services.settings.evidence_store_key_prefix,
        exchange.path_params["evidence_id"],
    )
    return Reply(200, envelope, raw=stored, headers=_FOR_EVER)


async def get_evidence_jwks(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/.well-known/cycles-jwks.json: 404 while no raw public key is configured."""
    await _brake(exchange, services)
    settings = services.settings
    keys = jwk_set(
        settings.evidence_signing_signer_did,
        settings.evidence_signing_kid,
        settings.evidence_signing_nbf_ms,
        settings.evidence_signing_retired_keys,
    )
    if keys is None:
        raise Refusal("NOT_FOUND", "This server publishes no signing keys")
    return Reply(200, keys, headers=_FOR_MINUTES)


async def _brake(exchange: Exchange, services: Services) -> None:
    settings = services.settings
    if settings.cycles_public_rate_limit_enabled:
        per_minute = settings.cycles_public_rate_limit_requests_per_minute
        await check_rate(services.store, exchange.client, per_minute)
