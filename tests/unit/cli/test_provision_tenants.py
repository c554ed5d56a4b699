"""Tenants that the command line makes, read by the code that serves requests."""

from __future__ import annotations

import orjson
import pytest
from redis import Redis
from support.stores import Functions

from cycles_server.auth.records import read_tenant
from cycles_server.cli.provision import provide_tenant
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt


def test_is_in_force_and_listed(client: Redis, do: Functions) -> None:
    assert do(provide_tenant, "acme", name="Acme")
    record = client.get("tenant:acme")
    policy = read_tenant(record.encode())
    assert (policy.guard, policy.suspended, policy.max_ttl_ms) == ("OPEN", False, 3_600_000)
    fields = orjson.loads(record)
    assert fields["name"] == "Acme"
    assert fields["created_at"].endswith("Z")
    assert client.smembers("tenants") == {"acme"}


def test_one_that_exists_is_left_alone(client: Redis, do: Functions) -> None:
    do(provide_tenant, "acme", name="Acme")
    before = client.get("tenant:acme")
    client.delete("tenants")  # as a crash between the two writes would leave it
    assert not do(provide_tenant, "acme", name="Other")
    assert client.get("tenant:acme") == before
    assert client.sismember("tenants", "acme")


@pytest.mark.parametrize("tenant_id", ["", "ab", "Acme", "a_b_c", "a" * 65, "acme/x", "a:b"])
def test_an_id_outside_the_contract(client: Redis, do: Functions, tenant_id: str) -> None:
    with pytest.raises(Refusal, match="tenant_id"):
        do(provide_tenant, tenant_id)
    assert not client.keys()


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ('{"tenant_id":"acme","name":"acme","status":"CLOSED"}', "is CLOSED"),
        ('{"tenant_id":"acme","name":"Other","status":"SUSPENDED"}', "is SUSPENDED"),
        ("{", "is no record"),
    ],
)
def test_one_that_is_not_in_force(client: Redis, do: Functions, record: str, status: str) -> None:
    client.set("tenant:acme", record)
    with pytest.raises((Refusal, StoreCorrupt), match=status):
        do(provide_tenant, "acme")
