"""The operator's key, ``X-Admin-API-Key``."""

from __future__ import annotations

import hmac

from cycles_server.auth.principal import OPERATOR, Principal
from cycles_server.refusal import Refusal, unauthorized

HEADER = "X-Admin-API-Key"


class AdminKey:
    """Authenticates the operator; nobody is, while no key is configured.

    Args:
        needed: whether a server without one is not set up, so that the operator is told so and
            not that the key is wrong.
    """

    header = HEADER.lower().encode()

    def __init__(self, configured: str, *, needed: bool = False) -> None:
        self._configured = configured.encode()
        self._needed = needed

    def recall(self, secret: str) -> Principal | None:
        return self._check(secret)

    async def authenticate(self, secret: str) -> Principal:
        """Raises: Refusal 401 for any other key; INTERNAL_ERROR where the key that is needed is
        not configured."""
        if self._needed and not self._configured:
            raise Refusal("INTERNAL_ERROR", "This server has no operator's key: set ADMIN_API_KEY")
        principal = self._check(secret)
        if principal is None:
            raise unauthorized()
        return principal

    def close(self) -> None:
        """Holds nothing."""

    def _check(self, secret: str) -> Principal | None:
        return OPERATOR if self.matches(secret.encode()) else None

    def matches(self, secret: bytes) -> bool:
        """Whether these bytes are the configured key; compared in constant time."""
        return bool(self._configured) and hmac.compare_digest(secret, self._configured)

    def opens(self, secret: bytes) -> bool:
        """Whether who sent these bytes may see what is the operator's: anybody, while no key is
        configured."""
        return not self._configured or self.matches(secret)
