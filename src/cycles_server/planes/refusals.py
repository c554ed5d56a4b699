"""What an error of the admin plane leaves behind before it is sent: an audit entry, and a mark
against an address that fails to authenticate again and again."""

from __future__ import annotations

import asyncio
import logging
import random
import re

from cycles_server.auth.adminkey import AdminKey
from cycles_server.auth.principal import OPERATOR, Principal
from cycles_server.auth.redaction import without_secrets
from cycles_server.governance.audit.refused_calls import (
    BY_OPERATOR,
    UNAUTHENTICATED,
    RefusedCall,
    leave_entry,
)
from cycles_server.governance.call import Call
from cycles_server.http.authbrake import AuthBrake
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.http.problems import Problem
from cycles_server.monitoring.metrics import GovernanceMetrics
from cycles_server.settings.admin import AdminSettings
from cycles_server.store.errors import StoreError
from cycles_server.store.store import Store

logger = logging.getLogger(__name__)

PATIENCE_S = 0.5
"""How long an answer waits for its entry, and for its address to be counted."""

_LONGEST_OPERATION = 256
_LONGEST_TEXT = 1024
_LONGEST_AGENT = 512
_KEY_ID = re.compile(r"key_[0-9A-Za-z_-]{1,64}")


class RefusalTrail:
    """Leaves the entries; see ``on_refusal`` of a plane. It raises nothing.

    A store that does not take an entry costs the answer :data:`PATIENCE_S` at most, and the loss is
    logged and counted.
    """

    def __init__(self, settings: AdminSettings, store: Store, metrics: GovernanceMetrics) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._operator = AdminKey(settings.admin_api_key)
        self._brake = AuthBrake(
            store,
            per_minute=settings.auth_failure_rate_limit_max_per_minute,
            most_sources=settings.auth_failure_rate_limit_max_tracked_sources,
        )
        # asyncio keeps only a weak reference to a task.
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, exchange: Exchange, reply: Reply) -> Reply:
        """Leave the entry of an error; the answer itself, or the one that a brake puts in its
        place."""
        tenant, principal = self._caller(exchange, reply)
        if tenant == UNAUTHENTICATED:
            too_many = await self._too_many(exchange, reply)
            if too_many is not None:
                return exchange.error_reply(too_many)
            if random.randrange(self._settings.audit_sample_unauthenticated):  # noqa: S311
                return reply
        entry = asyncio.create_task(self._leave(exchange, reply, tenant, principal))
        self._writing.add(entry)
        entry.add_done_callback(self._writing.discard)
        await asyncio.wait({entry}, timeout=PATIENCE_S)
        return reply

    def _caller(self, exchange: Exchange, reply: Reply) -> tuple[str, Principal]:
        """Whose the entry is, and whose key it names."""
        principal = exchange.principal
        # A key that was good before, and no longer is, leaves its principal in the exchange.
        if principal is not None and principal.tenant is not None and reply.status != 401:
            return principal.tenant, principal
        # Also where no operation was there to ask for it.
        secret = exchange.header(self._operator.header) or ""
        if self._operator.matches(secret.encode()):
            return BY_OPERATOR, OPERATOR
        return UNAUTHENTICATED, OPERATOR

    async def _too_many(self, exchange: Exchange, reply: Reply) -> Problem | None:
        if reply.status != 401 or not self._settings.auth_failure_rate_limit_enabled:
            return None
        try:
            async with asyncio.timeout(PATIENCE_S):
                seconds = await self._brake.failed(exchange.client)
        except (StoreError, TimeoutError) as error:
            logger.error("a failed authentication is not counted: %s", error, extra=exchange.ids)
            return None
        if seconds is None:
            return None
        return Problem(
            "LIMIT_EXCEEDED",
            "Too many failed authentications from one address",
            headers=(("retry-after", str(seconds)),),
        )

    async def _leave(
        self, exchange: Exchange, reply: Reply, tenant: str, principal: Principal
    ) -> None:
        settings = self._settings
        call = Call(
            principal=principal,
            request_id=exchange.request_id,
            trace_id=exchange.trace_id,
            client=exchange.client,
            user_agent=self._line(exchange.header(b"user-agent") or "", _LONGEST_AGENT),
            audit_days=(
                settings.audit_retention_unauthenticated_days
                if tenant == UNAUTHENTICATED
                else settings.audit_retention_authenticated_days
            ),
        )
        # What the client was told, and no more: the entry of a failure has no internals either.
        told = reply.body if isinstance(reply.body, dict) else {}
        asked = self._line(f"{exchange.method}:{exchange.path}", _LONGEST_OPERATION)
        refused = RefusedCall(
            tenant=tenant,
            operation=exchange.operation_id or asked,
            status=reply.status,
            error_code=str(told.get("error", "")),
            facts={
                "method": self._line(exchange.method, _LONGEST_OPERATION),
                "path": self._line(_shown_path(exchange), _LONGEST_TEXT),
                "message": self._line(str(told.get("message", "")), _LONGEST_TEXT),
            },
        )
        try:
            await leave_entry(self._store, call, refused)
        except Exception as error:
            self._metrics.audit_lost()
            logger.error(
                "an audit entry is lost: %s",
                error,
                exc_info=not isinstance(error, StoreError),
                extra=exchange.ids,
            )

    def _line(self, text: str, length: int) -> str:
        """A text on one line, without secrets, cut to a length."""
        text = without_secrets(text, self._settings.admin_api_key)
        return "".join(sign if sign.isprintable() else " " for sign in text[:length])


def _shown_path(exchange: Exchange) -> str:
    """The path; what stands in an API key's id's place and is none may be a secret of any form."""
    key_id = exchange.path_params.get("key_id")
    return exchange.path if key_id is None or _KEY_ID.fullmatch(key_id) else exchange.route
