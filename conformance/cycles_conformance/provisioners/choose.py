"""Which provisioner a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cycles_conformance.provisioners import Provisioner, ProvisioningError

WAYS = ("--admin-url", "--redis-url", "--provision-command", "--fixtures")
"""The options of the command line, in whose words the errors speak."""


def provisioner_for(
    *,
    admin_url: str | None = None,
    admin_key: str | None = None,
    redis_url: str | None = None,
    command: str | Sequence[str] | None = None,
    fixtures: str | Path | None = None,
    timeout: float = 10.0,
) -> Provisioner:
    """The provisioner for the one way that is given; an empty text counts as not given.

    ``admin_url`` and ``admin_key`` have other uses in a run: the URL chooses only where no other
    way is given, the key nothing by itself. ``timeout`` (seconds) is for the admin API. Raises
    ProvisioningError unless exactly one way is given, and what the provisioner raises.
    """
    values = (admin_url, redis_url, command, fixtures)
    given = [way for way, value in zip(WAYS, values, strict=True) if value]
    ways = ", ".join(WAYS[:-1]) + " or " + WAYS[-1]
    if not given:
        raise ProvisioningError(f"nothing says how tenants come into being: give {ways}")
    if len(given) > 1 and given[0] == WAYS[0]:
        del given[0]
    if len(given) > 1:
        raise ProvisioningError(f"give only one of {ways}, not {' and '.join(given)}")
    # Only the provisioner that is used is loaded: one of them needs an extra.
    if admin_url and given == [WAYS[0]]:
        from cycles_conformance.provisioners.admin import AdminProvisioner

        if not admin_key:
            raise ProvisioningError("--admin-url needs --admin-key as well")
        return AdminProvisioner(admin_url, admin_key, timeout)
    if redis_url:
        from cycles_conformance.provisioners.redis import RedisProvisioner

        return RedisProvisioner(redis_url)
    if command:
        from cycles_conformance.provisioners.command import CommandProvisioner

        return CommandProvisioner(command)
    from cycles_conformance.provisioners.fixtures import FixturesProvisioner

    assert fixtures is not None
    return FixturesProvisioner(fixtures)
