"""API keys as they are stored: what other servers wrote, damage, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.apikeys import PATH, by_key, made, revoke, stored, told, update
from support.cluster import on_a_cluster
from support.operator import Body, Operator
from support.running import Running
from support.tenants import UNIT, Tenant, error_of

from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout

NOT_FOUND = (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", {"tenant_id": None}, {"created_at": None}],
)
def test_a_record_that_cannot_be_read_is_left_alone(operator: Operator, damage: Any) -> None:
    tenant = operator.tenant()
    name = tenant.names.api_key(tenant.key_id)
    record = damage if isinstance(damage, str) else json.dumps({**tenant.key_record, **damage})
    operator.redis.set(name, record)
    assert error_of(update(operator, tenant.key_id, {"name": "x"})) == (500, "INTERNAL_ERROR")
    assert error_of(revoke(operator, tenant.key_id)) == (500, "INTERNAL_ERROR")
    assert operator.redis.get(name).decode() == record


@pytest.mark.parametrize("damage", [{"status": "?"}, {"expires_at": 7}, {"expires_at": "soon"}])
def test_one_that_does_not_say_when_it_ends_can_be_revoked(
    operator: Operator, damage: Body
) -> None:
    """It opens nothing here, and something on a server that reads it otherwise."""
    tenant = operator.tenant()
    tenant.write_key(**damage)
    assert error_of(update(operator, tenant.key_id, {"name": "x"})) == (500, "INTERNAL_ERROR")
    answer = revoke(operator, tenant.key_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "REVOKED")
    assert stored(tenant, tenant.key_id)["status"] == "REVOKED"


def test_one_that_ends_beyond_the_year_9999(operator: Operator, running: Running) -> None:
    """Java writes such a year with a sign."""
    tenant = operator.tenant()
    tenant.write_key(expires_at="+33658-09-27T01:46:40Z")
    for url, path in (
        (operator.url, "/v1/auth/introspect"),
        (running.url, "/v1/reservations"),
    ):
        headers = {"X-Cycles-API-Key": tenant.secret}
        assert httpx.get(f"{url}{path}", headers=headers).status_code == 200
    shown = update(operator, tenant.key_id, {"name": "x"}).json()
    assert shown["expires_at"] == "9999-12-31T23:59:59.999Z"
    assert stored(tenant, tenant.key_id)["expires_at"] == "+33658-09-27T01:46:40Z"
    assert revoke(operator, tenant.key_id).status_code == 200


@pytest.mark.parametrize(
    ("stored_end", "shown_end"),
    [
        ("2099-11-30T00:00:00.123456789Z", "2099-11-30T00:00:00.123456789Z"),
        ("20991130T000000Z", "2099-11-30T00:00:00.000Z"),
        ("2099-11-30T00:00:00", "2099-11-30T00:00:00.000Z"),
        (None, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_its_end_is_shown_as_the_contract_writes_times(
    operator: Operator, stored_end: str | None, shown_end: str
) -> None:
    tenant = operator.tenant()
    tenant.write_key(expires_at=stored_end)
    assert update(operator, tenant.key_id, {"name": "x"}).json()["expires_at"] == shown_end


@pytest.mark.parametrize("entries", [[None], [5, "agent:a"]])
def test_a_filter_that_another_server_stored_never_reads_as_none(
    operator: Operator, entries: Any
) -> None:
    """Copied from what is shown, it must not open more than it does."""
    tenant = operator.tenant()
    operator.budget(tenant)
    tenant.write_key(scope_filter=entries, permissions=[None, "budgets:read"])
    shown = operator.http.get(PATH, params={"tenant_id": tenant.name}).json()["keys"]
    (shown_filter,) = [one["scope_filter"] for one in shown if one["key_id"] == tenant.key_id]
    assert shown_filter
    headers = {"X-Cycles-API-Key": tenant.secret}
    scope = f"tenant:{tenant.name}"
    answer = httpx.get(
        f"{operator.url}/v1/admin/budgets/lookup",
        params={"scope": scope, "unit": UNIT},
        headers=headers,
    )
    assert error_of(answer) == (403, "FORBIDDEN")


def test_permissions_of_other_servers_survive_and_are_not_shown(operator: Operator) -> None:
    tenant = operator.tenant()
    tenant.write_key(permissions=["decide", "balances:read"], expires_at=None)
    body = update(operator, tenant.key_id, {"name": "x"}).json()
    assert body["permissions"] == ["balances:read"]
    assert body["expires_at"].startswith("9999-")
    assert stored(tenant, tenant.key_id)["permissions"] == ["decide", "balances:read"]


# -- where keys lie ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with on_a_cluster(tmp_path_factory.mktemp("cluster"), "admin") as running:
        yield running


def test_in_buckets(cluster: Running) -> None:
    operator = Operator(cluster.redis, cluster.url, Keys(BucketLayout()))
    tenant = Tenant(cluster.redis, cluster.url, operator.keys)
    tenant.record()
    body = made(operator, tenant)
    key_id, secret = body["key_id"], body["key_secret"]
    entry = cluster.redis.get(f"apikey:lookup:{secret[:14]}")
    assert entry == f"{key_id}@{tenant.name}".encode()
    assert by_key(cluster.url, secret) == 200
    assert operator.http.post("/v1/auth/validate", json={"key_secret": secret}).json()["valid"]
    # Neither the id of ours nor one that says nothing of the bucket needs a hint.
    for found in (key_id, tenant.key_id):
        assert update(operator, found, {"name": "x"}).status_code == 200
        assert revoke(operator, found).status_code == 200
    assert by_key(cluster.url, secret) == 401
    assert error_of(revoke(operator, "key_unknown")) == NOT_FOUND
    assert len(told(operator, tenant, "revokeApiKey")) == 2
