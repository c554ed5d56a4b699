"""Secrets that the command line keeps in files."""

from __future__ import annotations

from pathlib import Path

from redis import Redis
from support.stores import Functions

from cycles_server.cli.keyfile import kept_key
from cycles_server.cli.provision import provide_tenant
from cycles_server.cli.secretfile import kept_admin_key


def test_a_kept_key(client: Redis, do: Functions, tmp_path: Path) -> None:
    path = tmp_path / "acme.key"
    do(provide_tenant, "acme")
    secret, new = do(kept_key, "acme", path)
    assert new
    assert path.stat().st_mode & 0o777 == 0o600
    assert do(kept_key, "acme", path) == (secret, False)
    client.flushall()  # another store: the kept key is not one of its keys
    do(provide_tenant, "acme")
    other, new = do(kept_key, "acme", path)
    assert new
    assert path.read_text().strip() == other != secret


def test_an_operators_key(tmp_path: Path) -> None:
    path = tmp_path / "data" / "admin.key"
    secret = kept_admin_key(path)
    assert len(secret) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert kept_admin_key(path) == secret
    path.write_text("\n")  # none in it
    path.chmod(0o644)
    assert kept_admin_key(path) != secret
    assert path.stat().st_mode & 0o777 == 0o600
