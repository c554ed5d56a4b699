"""The brake on failed authentications: who fails too often is told to wait, nobody else is."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.audit import BY_OPERATOR, UNAUTHENTICATED, entries_of
from support.edges import check_error
from support.operator import Operator
from support.running import Running, StartServer
from support.tenants import error_of

PATH = "/v1/admin/tenants/nobody-here"
UNAUTHORIZED = (401, "UNAUTHORIZED")


@pytest.fixture
def braked(start: StartServer) -> Running:
    return start(
        arguments=("admin",),
        AUTH_FAILURE_RATE_LIMIT_ENABLED="true",
        AUTH_FAILURE_RATE_LIMIT_MAX_PER_MINUTE="5",
        AUTH_FAILURE_RATE_LIMIT_MAX_TRACKED_SOURCES="2",
        CYCLES_WORKERS="2",
    )


@pytest.fixture
def at(braked: Running) -> Iterator[dict[str, httpx.Client]]:
    """Clients at some addresses of this machine; each call is a connection of its own."""
    limits = httpx.Limits(max_keepalive_connections=0)
    clients = {
        address: httpx.Client(
            base_url=braked.url,
            transport=httpx.HTTPTransport(local_address=address, limits=limits),
            timeout=30,
        )
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    }
    yield clients
    for client in clients.values():
        client.close()


def test_too_many_failures(braked: Running, at: dict[str, httpx.Client]) -> None:
    operator = Operator(braked.redis, braked.url)
    for _ in range(5):
        assert error_of(at["127.0.0.1"].get(PATH)) == UNAUTHORIZED
    for _ in range(3):
        refused = at["127.0.0.1"].get(PATH, headers={"X-Admin-API-Key": "wrong"})
        check_error(refused, 429, "LIMIT_EXCEEDED")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert not [name for name in refused.headers if name.startswith("x-ratelimit")]
        assert entries_of(operator, UNAUTHENTICATED, refused) == []
    assert len(operator.audit(UNAUTHENTICATED)) == 5
    # A good key is let in, from that address too, and so is who asks elsewhere.
    assert error_of(operator.http.get(PATH)) == (404, "TENANT_NOT_FOUND")
    assert len(operator.audit(BY_OPERATOR)) == 1
    tenant = operator.tenant()
    assert error_of(tenant.http.get("/v1/admin/budgets/lookup"))[0] == 400
    # What is no failed authentication is not counted, nor is it held back.
    assert error_of(at["127.0.0.1"].get("/v1/admin/nope")) == (404, "NOT_FOUND")
    assert error_of(at["127.0.0.2"].get(PATH)) == UNAUTHORIZED
    # The minute ends.
    assert 0 < braked.redis.pttl("cycles:authfailures") <= 60_000
    braked.redis.delete("cycles:authfailures")
    assert error_of(at["127.0.0.1"].get(PATH)) == UNAUTHORIZED


def test_more_addresses_than_are_counted_count_as_one(
    braked: Running, at: dict[str, httpx.Client]
) -> None:
    for address in ("127.0.0.1", "127.0.0.2"):
        assert error_of(at[address].get(PATH)) == UNAUTHORIZED
    for address in ("127.0.0.3", "127.0.0.4", "127.0.0.3", "127.0.0.4", "127.0.0.3"):
        assert error_of(at[address].get(PATH)) == UNAUTHORIZED
    for address in ("127.0.0.3", "127.0.0.4"):
        assert error_of(at[address].get(PATH)) == (429, "LIMIT_EXCEEDED")
    for address in ("127.0.0.1", "127.0.0.2"):
        assert error_of(at[address].get(PATH)) == UNAUTHORIZED
    assert braked.redis.hlen("cycles:authfailures") == 3


def test_a_count_that_is_lost_refuses_nobody(braked: Running, at: dict[str, httpx.Client]) -> None:
    braked.redis.set("cycles:authfailures", "no hash", ex=600)
    for _ in range(7):
        assert error_of(at["127.0.0.1"].get(PATH)) == UNAUTHORIZED
    braked.redis.delete("cycles:authfailures")


def test_there_is_none_unless_it_is_asked_for(operator: Operator) -> None:
    for _ in range(310):
        refused = operator.http.get(PATH, headers={"X-Admin-API-Key": "wrong"})
        assert error_of(refused) == UNAUTHORIZED
    assert not operator.redis.exists("cycles:authfailures")
