"""The audit log: search it."""

from __future__ import annotations

from cycles_server.governance.audit.log import list_audit_page, read_audit_query
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.admin import Services


async def list_audit_logs(exchange: Exchange, services: Services) -> Reply:
    """GET /v1/admin/audit/logs."""
    query = read_audit_query(exchange.query)
    most_bytes = services.settings.cycles_max_page_bytes
    return Reply(200, await list_audit_page(services.store, query, most_bytes))
