"""What an operator sets for the admin plane alone."""

from __future__ import annotations

from pydantic import Field

from cycles_server.settings.common import CommonSettings, plane_port
from cycles_server.settings.readers import DaysOrForEver, Port, Switch


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
