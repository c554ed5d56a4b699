"""Budgets that the command line makes, and sets to another allocation."""

from __future__ import annotations

import pytest
from redis import Redis
from support.stores import Functions

from cycles_server.cli.provision import BudgetEntry, check_budget, provide_budget
from cycles_server.jsontext import INT64_MAX
from cycles_server.refusal import Refusal
from cycles_server.store.errors import StoreCorrupt


@pytest.fixture(autouse=True)
def tenants(client: Redis) -> None:
    client.set("tenant:acme", '{"tenant_id":"acme","name":"acme","status":"ACTIVE"}')


def test_is_stored_as_the_reference_stores_it(client: Redis, do: Functions) -> None:
    entry: BudgetEntry = do(provide_budget, "acme", "tenant:acme/agent:bot", "TOKENS", 500)
    assert (entry.created, entry.allocated, entry.remaining) == (True, 500, 500)
    key = "budget:tenant:acme/agent:bot:TOKENS"
    fields = client.hgetall(key)
    assert len(fields.pop("ledger_id")) == 36
    assert fields.pop("created_at").isdigit()
    assert fields == {
        "tenant_id": "acme",
        "scope": "tenant:acme/agent:bot",
        "unit": "TOKENS",
        "allocated": "500",
        "remaining": "500",
        "reserved": "0",
        "spent": "0",
        "debt": "0",
        "overdraft_limit": "0",
        "is_over_limit": "false",
        "status": "ACTIVE",
    }
    assert client.smembers("budgets:acme") == {key}


def test_one_that_exists_keeps_its_money(client: Redis, do: Functions) -> None:
    do(provide_budget, "acme", "tenant:acme", "TOKENS", 500)
    client.hset("budget:tenant:acme:TOKENS", mapping={"remaining": "1", "spent": "499"})
    client.delete("budgets:acme")
    before = client.hgetall("budget:tenant:acme:TOKENS")
    entry = do(provide_budget, "acme", "tenant:acme", "TOKENS", 9000)
    assert (entry.created, entry.allocated, entry.remaining) == (False, 500, 1)
    assert client.hgetall("budget:tenant:acme:TOKENS") == before
    assert client.scard("budgets:acme") == 1


def test_a_half_written_one_is_not_touched(client: Redis, do: Functions) -> None:
    client.hset("budget:tenant:acme:TOKENS", mapping={"tenant_id": "acme", "spent": "5"})
    with pytest.raises(StoreCorrupt):
        do(provide_budget, "acme", "tenant:acme", "TOKENS", 500)
    assert not client.hexists("budget:tenant:acme:TOKENS", "allocated")


def test_the_whole_of_int64(client: Redis, do: Functions) -> None:
    do(provide_budget, "acme", "tenant:acme", "TOKENS", INT64_MAX)
    assert int(client.hget("budget:tenant:acme:TOKENS", "remaining")) == INT64_MAX


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ("", "must be LEVEL:VALUE"),
        ("acme", "must be LEVEL:VALUE"),
        ("team:x", "must be LEVEL:VALUE"),
        ("tenant:acme/", "must be LEVEL:VALUE"),
        ("tenant:", "one or more of the letters"),
        ("tenant:acme/agent:a b", "one or more of the letters"),
        ("tenant:acme/agent:a:b", "one or more of the letters"),
        ("tenant:acme/agent:x/agent:y", "names agent twice"),
        ("Tenant:acme", "write 'tenant:acme'"),
        ("agent:bot/tenant:acme", "write 'tenant:acme/agent:bot'"),
        ("tenant:other", "is not below tenant:acme"),
        ("agent:bot", "is not below tenant:acme"),
        ("tenant:acme/agent:" + "x" * 129, "over 128 characters"),
    ],
)
def test_a_scope_that_no_subject_has(client: Redis, do: Functions, scope: str, says: str) -> None:
    with pytest.raises(Refusal) as caught:
        do(provide_budget, "acme", scope, "TOKENS", 1)
    assert says in str(caught.value)
    assert client.keys() == ["tenant:acme"]


@pytest.mark.parametrize(("unit", "allocated"), [("USD", 1), ("TOKENS", -1), ("TOKENS", 2**63)])
def test_amounts_outside_the_contract(unit: str, allocated: int) -> None:
    with pytest.raises(Refusal):
        check_budget("acme", "tenant:acme", unit, allocated)


# -- set to another allocation --------------------------------------------------------------------

KEY = "budget:tenant:acme:TOKENS"


def stored(client: Redis) -> dict[str, str]:
    fields: dict[str, str] = client.hgetall(KEY)
    return fields


def existing(client: Redis, do: Functions, **fields: int | str) -> dict[str, str]:
    do(provide_budget, "acme", "tenant:acme", "TOKENS", 500)
    client.hset(KEY, "overdraft_limit", 40)
    client.hset(KEY, mapping={**fields, "updated_at": 1})
    return stored(client)


def test_one_that_is_not_there_is_made(client: Redis, do: Functions) -> None:
    entry = do(provide_budget, "acme", "tenant:acme", "TOKENS", 500, replace=True)
    assert (entry.created, entry.replaced, entry.remaining) == (True, None, 500)
    assert client.sismember("budgets:acme", KEY)


@pytest.mark.parametrize(
    ("fields", "allocated", "remaining", "over"),
    [
        ({"reserved": 100, "spent": 200, "debt": 40}, 1000, 660, "false"),
        ({"reserved": 100, "spent": 200, "debt": 41}, 100, -241, "true"),
        ({"reserved": 100, "spent": 200}, 0, -300, "false"),
        ({"is_over_limit": "true"}, 500, 500, "false"),
        ({"spent": 1}, INT64_MAX, INT64_MAX - 1, "false"),
        ({"reserved": 1, "spent": 2**53}, 2**53 + 2, 1, "false"),
        ({"reserved": 1, "spent": INT64_MAX}, 0, -(2**63), "false"),
    ],
)
def test_what_remains_follows(
    client: Redis,
    do: Functions,
    fields: dict[str, int | str],
    allocated: int,
    remaining: int,
    over: str,
) -> None:
    before = existing(client, do, **fields)
    entry = do(provide_budget, "acme", "tenant:acme", "TOKENS", allocated, replace=True)
    assert (entry.created, entry.replaced) == (False, 500)
    assert (entry.allocated, entry.remaining) == (allocated, remaining)
    after = stored(client)
    assert int(after.pop("updated_at")) >= int(after["created_at"])
    del before["updated_at"]
    assert after == {
        **before,
        "allocated": str(allocated),
        "remaining": str(remaining),
        "is_over_limit": over,
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"status": "FROZEN"}, "is frozen: unfreeze it first"),
        ({"status": "CLOSED"}, "is closed"),
        ({"status": "PAUSED"}, "CORRUPT_BUDGET"),
        ({"spent": "5.5"}, "CORRUPT_BUDGET"),
        ({"debt": 2**63}, "CORRUPT_BUDGET"),
        ({"reserved": 2, "spent": INT64_MAX}, "beyond what int64 can count"),
        ({"tenant_id": "other"}, "has no such budget"),
    ],
)
def test_what_cannot_be_set_is_left_alone(
    client: Redis, do: Functions, fields: dict[str, int | str], says: str
) -> None:
    before = existing(client, do, **fields)
    with pytest.raises((Refusal, StoreCorrupt), match=says):
        do(provide_budget, "acme", "tenant:acme", "TOKENS", 0, replace=True)
    assert stored(client) == before
