"""Where a tenant's keys live: the tag that every key of one tenant carries.

The reference layout has no tag, so that this server can take over, share or hand back a Redis
that other Cycles services use. The bucket layout puts each tenant into one of 256 hash-tagged
buckets, which a Redis Cluster can spread over its nodes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol


@lru_cache(maxsize=65536)
def bucket_of(tenant: str) -> int:
    """The tenant's bucket: the first byte of SHA-256 of its id."""
    return hashlib.sha256(tenant.encode()).digest()[0]


def new_id(tenant: str) -> str:
    """A random version-4 UUID whose last byte is the tenant's bucket.

    An id alone then finds its slot in the bucket layout.
    """
    raw = os.urandom(15).hex()
    variant = "89ab"[int(raw[16], 16) & 3]
    return (
        f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{variant}{raw[17:20]}-{raw[20:]}"
        f"{bucket_of(tenant):02x}"
    )


def new_key_id(tenant: str) -> str:
    """The id of an API key; its last byte, too, is the tenant's bucket."""
    return f"key_{os.urandom(7).hex()}{bucket_of(tenant):02x}"


class Layout(Protocol):
    """How tenants map to key tags."""

    def tag(self, tenant: str) -> str:
        """The tag in front of every key of this tenant (empty, or like ``{b07f}``)."""

    def tags(self) -> Sequence[str]:
        """Every tag there is, for walks over all tenants."""

    def tags_of_id(self, record_id: str) -> Sequence[str]:
        """Where a reservation, event or API key of unknown tenant may live, the likeliest first."""

    def lookup_value(self, tenant: str, key_id: str) -> str:
        """What ``apikey:lookup:{prefix}`` holds for this key."""

    def read_lookup(self, value: str) -> tuple[str, str | None]:
        """The key id that a lookup value names, and its tenant where the layout tells."""


class ReferenceLayout:
    """No tags: the key names of the reference deployment."""

    def tag(self, tenant: str) -> str:
        return ""

    def tags(self) -> Sequence[str]:
        return ("",)

    def tags_of_id(self, record_id: str) -> Sequence[str]:
        return ("",)

    def lookup_value(self, tenant: str, key_id: str) -> str:
        return key_id

    def read_lookup(self, value: str) -> tuple[str, str | None]:
        return value, None


class BucketLayout:
    """256 hash tags, ``{b000}`` to ``{b255}``; one tenant is whole in one of them."""

    _ALL = tuple(f"{{b{number:03d}}}" for number in range(256))

    def tag(self, tenant: str) -> str:
        return self._ALL[bucket_of(tenant)]

    def tags(self) -> Sequence[str]:
        return self._ALL

    def tags_of_id(self, record_id: str) -> Sequence[str]:
        try:
            first = self._ALL[int(record_id[-2:], 16)]
        except ValueError:
            return self._ALL
        return (first, *(tag for tag in self._ALL if tag != first))

    def lookup_value(self, tenant: str, key_id: str) -> str:
        # The key's record lives with its tenant, and the lookup is all that a secret leads to.
        return f"{key_id}@{tenant}"

    def read_lookup(self, value: str) -> tuple[str, str | None]:
        key_id, _, tenant = value.partition("@")
        return key_id, tenant or None


LAYOUTS: dict[str, type[ReferenceLayout] | type[BucketLayout]] = {
    "reference": ReferenceLayout,
    "buckets": BucketLayout,
}
