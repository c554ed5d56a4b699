"""What an operator sets for the runtime plane alone."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cycles_server.settings.common import CommonSettings, plane_port
from cycles_server.settings.readers import (
    INT32,
    Cron,
    DaysOrForEver,
    Delay,
    JsonArray,
    Milliseconds,
    Port,
    Switch,
    whole,
)


class RuntimeSettings(CommonSettings):
    """Every setting of the runtime plane."""

    IGNORED: ClassVar[frozenset[str]] = CommonSettings.IGNORED | {
        "cycles_events_emit_queue_capacity",
        "cycles_events_emit_threads",
        "cycles_tenant_config_cache_ttl_ms",
        "evidence_pending_key",
        "evidence_server_id",
        "reservation_created_at_index_enabled",
        "reservation_created_at_index_initial_delay_ms",
    }

    # -- HTTP --------------------------------------------------------------------------------------

    server_port: Port = plane_port(7878)
    springdoc_api_docs_enabled: Switch = Field(
        default=True, description="Whether the contract is served under `/api-docs`."
    )
    springdoc_swagger_ui_enabled: Switch = Field(
        default=True,
        description="Whether the browsable contract is served under `/swagger-ui.html`.",
    )
    cycles_public_rate_limit_enabled: Switch = Field(
        default=True,
        description=(
            "Whether calls without a key (evidence and its key set, not health) are limited for "
            "each client address."
        ),
    )
    cycles_public_rate_limit_requests_per_minute: Annotated[int, whole(1, INT32)] = Field(
        default=300,
        description=(
            "Calls a minute that one client address (the peer of the socket) may make without a "
            "key, counted over all workers."
        ),
    )

    # -- the ledger --------------------------------------------------------------------------------

    cycles_expiry_interval_ms: Milliseconds = Field(
        default=5000,
        description=(
            "Milliseconds between the end of one sweep that gives back the holds of lapsed "
            "reservations and the start of the next."
        ),
    )

    # -- audit ------------------------------------------------------------------------------------

    audit_retention_days: DaysOrForEver = Field(
        default=400, description="Days that an audit entry is kept; 0: for ever."
    )

    # -- the index of reservations -----------------------------------------------------------------

    reservation_created_at_index_repair_interval_ms: Milliseconds = Field(
        default=300_000,
        description=(
            "Milliseconds between two scans that add missing reservations to the list index; the "
            "first runs at start."
        ),
    )
    reservation_created_at_index_failure_backoff_ms: Delay = Field(
        default=3_600_000,
        description=("Milliseconds to the next such scan after one that failed."),
    )
    reservation_created_at_index_sweep_cron: Cron = Field(
        default="0 45 3 * * *",
        description=(
            "When list index entries of reservations that are gone are removed: a cron expression "
            "of six fields, seconds first; `-`: never."
        ),
    )

    # -- metrics -----------------------------------------------------------------------------------

    cycles_metrics_tenant_tag_enabled: Switch = Field(
        default=True,
        description=(
            "Whether the domain metrics carry the tenant as a label; switch it off when tenants "
            "are many and the series too numerous."
        ),
    )

    # -- evidence ----------------------------------------------------------------------------------

    evidence_server_id: str = Field(
        default="",
        description=(
            "Base URL under which this server issues evidence, `/v1` included; it serves "
            "stored evidence and does not issue any yet."
        ),
    )
    evidence_signing_signer_did: str = Field(
        default="",
        description=(
            "Public Ed25519 key that signs evidence, as 64 lower-case hex digits. Any other text "
            "is taken over as it is, and the key set is then not published (404)."
        ),
    )
    evidence_signing_kid: str = Field(
        default="",
        description=(
            "Id of that key in the published key set; empty: the key's first 16 hex digits."
        ),
    )
    evidence_signing_nbf_ms: Delay = Field(
        default=0, description="From when that key is valid, in milliseconds since 1970 UTC."
    )
    evidence_signing_retired_keys: JsonArray = Field(
        default=[],
        description=(
            "Earlier keys that stay published: a JSON array of objects with `signer_did`, `kid`, "
            "`nbf_ms` and `exp_ms` (milliseconds since 1970 UTC, the end excluded)."
        ),
    )
    evidence_pending_key: str = Field(
        default="evidence:pending",
        description=(
            "Redis key of the list where evidence waits for signing; nothing is put there yet."
        ),
    )
    evidence_store_key_prefix: str = Field(
        default="evidence:envelope:",
        description="What the Redis keys of signed evidence start with; the id follows.",
    )

    # -- ignored -----------------------------------------------------------------------------------

    cycles_tenant_config_cache_ttl_ms: Delay = Field(
        default=60_000,
        description=(
            "Milliseconds that a tenant's defaults may be out of date; here a change counts at "
            "once."
        ),
    )
    cycles_events_emit_threads: Annotated[int, whole(0, INT32)] = Field(
        default=0,
        description=("Threads that write events; there are none here."),
    )
    cycles_events_emit_queue_capacity: Annotated[int, whole(0, INT32)] = Field(
        default=10_000,
        description="Events that may wait in memory before some are lost; here none wait there.",
    )
    reservation_created_at_index_enabled: Switch = Field(
        default=False,
        description="Whether lists use the index by creation time; here they always do.",
    )
    reservation_created_at_index_initial_delay_ms: Delay = Field(
        default=5000,
        description="Milliseconds before the first scan for that index; here it runs at start.",
    )
