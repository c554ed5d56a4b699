"""What can go wrong between this server and Redis.

::

    StoreError
    ├── StoreUnavailable   the call did not run; nothing was changed
    ├── StoreTimeout       no answer in time: the call may or may not have run
    ├── StoreRefused       Redis answered that it cannot do such work now (full, read only, ...)
    ├── StoreCorrupt       a stored record has the wrong type or content
    └── StoreFault         the call failed within Redis by a fault of ours: a bug in a script, ...
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every failure of the store."""


class StoreUnavailable(StoreError):
    """The call did not run: it was never sent, or Redis said so."""


class StoreTimeout(StoreError):
    """The call was sent and its outcome is unknown. Only its idempotency key makes it safe
    to send again."""


class StoreRefused(StoreError):
    """Redis is there and refuses the work for now: out of memory, a replica, loading.

    Attributes:
        code: Redis's word for it, such as ``OOM`` or ``READONLY``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class StoreCorrupt(StoreError):
    """A stored record cannot be read as what it should be; only that record is concerned."""


class StoreFault(StoreError):
    """The call failed within Redis, and neither a record nor the state of the store is why: a
    script stumbled over a bug, or a command is wrong. What a script wrote before stays."""
