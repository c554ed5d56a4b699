"""What can go wrong between this server and Redis.

::

    StoreError
    ├── StoreUnavailable   the call did not run; nothing was changed
    ├── StoreTimeout       no answer in time: the call may or may not have run
    ├── StoreRefused       Redis answered that it cannot do such work now (full, read only, ...)
    └── StoreCorrupt       a stored record has the wrong type or content
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
    """Redis is there and refuses the work for now: out of memory, a replica, loading."""


class StoreCorrupt(StoreError):
    """A stored record cannot be read as what it should be; only that record is concerned."""
