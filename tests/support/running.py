"""A running server together with its store, as most tests have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import Tenant


@dataclass
class Running:
    """A running server and its store."""

    server: CyclesServer
    store: RedisServer

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def redis(self) -> Redis[Any]:  # type: ignore[type-arg]
        return self.store.client

    def tenant(self, **fields: Any) -> Tenant:
        """A new tenant with a key; without fields it has no record, and so no restriction."""
        tenant = Tenant(self.redis, self.url)
        if fields:
            tenant.record(**fields)
        return tenant


StartServer = Callable[..., Running]
"""Options of the store, and the server's arguments and settings by name (``conftest.start``)."""
