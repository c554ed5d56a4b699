"""Which provisioner a run gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cycles_conformance.provisioners import ProvisioningError
from cycles_conformance.provisioners.choose import provisioner_for


def test_each_way_has_its_provisioner(tmp_path: Path, redis_url: str) -> None:
    pool = tmp_path / "pool.yaml"
    pool.write_text("tenants: [{id: a, keys: [{secret: s}]}]")
    command = ["echo", '{"lacks": []}']
    ways: list[dict[str, Any]] = [
        {"admin_url": "http://localhost", "admin_key": "k"},
        {"redis_url": redis_url, "admin_key": "for the server itself"},
        {"command": command, "fixtures": ""},
        {"fixtures": pool},
        # The admin plane's URL has another use: whoever names another way means that.
        {"fixtures": pool, "admin_url": "http://localhost", "admin_key": "k"},
    ]
    names = []
    for way in ways:
        provisioner = provisioner_for(**way)
        names.append(provisioner.name)
        provisioner.close()
    assert names == ["admin API", "redis", "command", "fixtures", "fixtures"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {},
            "nothing says how tenants come into being: "
            "give --admin-url, --redis-url, --provision-command or --fixtures",
        ),
        (
            {"admin_key": "k", "command": ""},
            "nothing says how tenants come into being: "
            "give --admin-url, --redis-url, --provision-command or --fixtures",
        ),
        (
            {"redis_url": "redis://h", "command": "c"},
            "give only one of --admin-url, --redis-url, --provision-command or --fixtures, "
            "not --redis-url and --provision-command",
        ),
        ({"admin_url": "http://h"}, "--admin-url needs --admin-key as well"),
    ],
)
def test_what_chooses_no_provisioner(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ProvisioningError) as failure:
        provisioner_for(**options)
    assert str(failure.value) == says
