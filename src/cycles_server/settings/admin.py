"""What an operator sets for the admin plane alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cycles_server.settings.common import CommonSettings, plane_port
from cycles_server.settings.readers import INT32, DaysOrForEver, Milliseconds, Port, Switch, whole


class AdminSettings(CommonSettings):
    """Every setting of the admin plane."""

    server_port: Port = plane_port(7979)
    dashboard_cors_origin: str = Field(
        default="http://localhost:5173",
        description=(
            "The browser origin that may call, scheme and port included: that of the operators' "
            "dashboard. A page of any other cannot read an answer."
        ),
    )
    api_docs_enabled: Switch = Field(
        default=False, description="Whether the contract is served under `/api-docs`."
    )
    swagger_enabled: Switch = Field(
        default=False,
        description="Whether the browsable contract is served under `/swagger-ui.html`.",
    )
    audit_retention_authenticated_days: DaysOrForEver = Field(
        default=400,
        description="Days that an entry of an authenticated call is kept; 0: for ever.",
    )
    tenant_close_reconciler_enabled: Switch = Field(
        default=True,
        description=(
            "Whether closes of tenants that were broken off are finished in the background."
        ),
    )
    tenant_close_reconciler_interval_ms: Milliseconds = Field(
        default=300_000,
        description=(
            "Milliseconds between two looks for such closes; the first is at start. With it the "
            "time is bounded in which what a closed tenant owns has ended."
        ),
    )
    tenant_close_reconciler_max_tenants_per_run: Annotated[int, whole(1, INT32)] = Field(
        default=100, description="Tenants whose close is finished in one run."
    )
    audit_retention_unauthenticated_days: DaysOrForEver = Field(
        default=30,
        description=(
            "Days that the entry of a call is kept that nobody was authenticated for; 0: for ever."
        ),
    )
    audit_sample_unauthenticated: Annotated[int, whole(1, INT32)] = Field(
        default=1,
        description="Of so many of those calls one, drawn at random, leaves an entry; 1: each.",
    )
    auth_failure_rate_limit_enabled: Switch = Field(
        default=False,
        description=(
            "Whether failed authentications of one client address (the peer of the socket) are "
            "limited: those above the limit are answered 429 and leave no audit entry. A call with "
            "a good key is never limited."
        ),
    )
    auth_failure_rate_limit_max_per_minute: Annotated[int, whole(1, INT32)] = Field(
        default=300,
        description="Failed authentications a minute of one address, counted over all workers.",
    )
    auth_failure_rate_limit_max_tracked_sources: Annotated[int, whole(1, 1_000_000)] = Field(
        default=10_000,
        description="Addresses that are counted by themselves in a minute; the others together.",
    )
    cycles_list_order_check_interval_ms: Milliseconds = Field(
        default=3_600_000,
        description=(
            "Milliseconds between two checks of the order that is kept of large lists (tenants; a "
            "tenant's budgets, keys, policies) against what they list; the first runs at start."
        ),
    )
