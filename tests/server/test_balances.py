"""getBalances over HTTP, on budgets in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.reading import CommandCount, Reader
from support.server import ADMIN_KEY
from support.tenants import Tenant

PATH = "/v1/balances"


class Balances:
    """A tenant's budgets, and what it is shown of them."""

    def __init__(self, running: Any, **key: Any) -> None:
        self.tenant: Tenant = running.tenant()
        self.name = self.tenant.name
        secret = self.tenant.new_key(**key) if key else self.tenant.secret
        self.reader = Reader(running.url, secret)

    def put(self, levels: str = "", **fields: Any) -> str:
        """A budget below the tenant's own scope; returns its scope."""
        scope = f"tenant:{self.name}" + (f"/{levels}" if levels else "")
        return self.tenant.budget(scope, **{"allocated": 1_000, **fields})

    def scopes(self, **params: Any) -> list[str]:
        rows = self.reader.rows(PATH, "balances", **params)
        return [row["scope_path"] for row in rows]

    def refused(self, expected: int, /, **params: Any) -> str:
        response = self.reader.get(PATH, **params)
        assert response.status_code == expected, response.text
        return str(response.json()["error"])


@pytest.fixture
def balances(running: Any) -> Balances:
    return Balances(running)


def amount(value: int, unit: str = "TOKENS") -> dict[str, Any]:
    return {"unit": unit, "amount": value}


def test_a_balance_says_what_is_stored(balances: Balances) -> None:
    scope = balances.put("agent:bot", remaining=900, spent=60, reserved=40)
    (row,) = balances.reader.page(PATH, agent="bot")["balances"]
    assert row == {
        "scope": "agent:bot",
        "scope_path": scope,
        "allocated": amount(1_000),
        "remaining": amount(900),
        "spent": amount(60),
        "reserved": amount(40),
    }
    balances.put(
        "agent:bot", remaining=-(2**63), spent=1_400, debt=100, overdraft_limit=50,
        is_over_limit="true", status="FROZEN",
    )  # fmt: skip
    (row,) = balances.reader.page(PATH, agent="bot")["balances"]
    assert row["remaining"] == amount(-(2**63))
    assert row["debt"] == amount(100)
    assert row["overdraft_limit"] == amount(50)
    assert row["is_over_limit"] is True


def test_filters_match_whole_segments_and_what_lies_below(balances: Balances) -> None:
    whole = balances.put()
    dev = balances.put("workspace:dev")
    bot = balances.put("workspace:dev/agent:bot-1")
    ten = balances.put("workspace:dev/agent:bot-10")
    prod = balances.put("workspace:prod")
    for children in ({}, {"include_children": "false"}, {"include_children": "true"}):
        assert balances.scopes(tenant=balances.name, **children) == [whole, dev, bot, ten, prod]
        assert balances.scopes(workspace="dev", **children) == [dev, bot, ten]
    assert balances.scopes(workspace="DEV", agent="BOT-1") == [bot]
    assert balances.scopes(workspace="dev", agent="none") == []
    assert balances.scopes(workspace="dev/agent:bot-1") == []


def test_each_unit_is_a_row_and_rows_are_ordered(balances: Balances) -> None:
    for unit in ("TOKENS", "USD_MICROCENTS", "CREDITS", "RISK_POINTS"):
        for levels in ("workspace:b", "workspace:a", ""):
            balances.put(levels, unit=unit)
    whole = [
        (row["scope_path"], row["remaining"]["unit"])
        for row in balances.reader.rows(PATH, "balances", tenant=balances.name)
    ]
    assert len(whole) == 12
    assert whole == sorted(whole)
    for limit in (1, 5, 12):
        rows = balances.reader.rows(PATH, "balances", tenant=balances.name, limit=limit)
        assert [(row["scope_path"], row["remaining"]["unit"]) for row in rows] == whole


def test_thousands_of_budgets_stay_in_order(balances: Balances) -> None:
    """Names are looked at a thousand at a time, and some of them lead nowhere."""
    tenant = balances.tenant
    store, tenant.redis = tenant.redis, tenant.redis.pipeline(transaction=False)
    scopes = [balances.put(f"agent:bot-{place:04}") for place in range(2_500)]
    tenant.redis.execute()
    tenant.redis = store
    gone = scopes[3:2_400:7]
    store.delete(*(tenant.names.budget(scope, "TOKENS") for scope in gone))
    there = sorted(set(scopes) - set(gone))
    assert balances.scopes(tenant=balances.name, limit=200) == there
    page = balances.reader.page(PATH, tenant=balances.name, limit=150)
    rest = balances.scopes(tenant=balances.name, limit=200, cursor=page["next_cursor"])
    assert rest == there[150:]


def test_budgets_come_and_go_between_pages(balances: Balances) -> None:
    scopes = [balances.put(f"agent:bot-{place:02}") for place in range(20)]
    page = balances.reader.page(PATH, tenant=balances.name, limit=5)
    seen = [row["scope_path"] for row in page["balances"]]
    names = balances.tenant.names
    for gone in (scopes[4], scopes[5], scopes[12]):
        balances.tenant.redis.delete(names.budget(gone, "TOKENS"))
        if gone != scopes[12]:  # one stays in the set of names
            balances.tenant.redis.srem(names.budgets, names.budget(gone, "TOKENS"))
    balances.put("agent:bot-000")
    added = balances.put("agent:bot-99")
    seen += balances.scopes(tenant=balances.name, limit=5, cursor=page["next_cursor"])
    assert seen == [scope for scope in scopes if scope not in (scopes[5], scopes[12])] + [added]


def test_only_the_tenants_own(balances: Balances, running: Any) -> None:
    other = Balances(running)
    mine, theirs = balances.put("workspace:dev"), other.put("workspace:dev")
    names = balances.tenant.names
    balances.tenant.redis.sadd(names.budgets, names.budget(theirs, "TOKENS"))
    # A record without an owner counts below its tenant's scope alone.
    unowned = balances.put("workspace:dev/agent:a")
    balances.tenant.redis.hdel(names.budget(unowned, "TOKENS"), "tenant_id")
    for scope in ("workspace:dev/app:x", f"tenant:{other.name}/workspace:dev/app:x"):
        balances.tenant.budget(scope)
        balances.tenant.redis.hdel(names.budget(scope, "TOKENS"), "tenant_id")
    assert balances.scopes(workspace="dev") == [mine, unowned]
    owned = balances.tenant.budget(f"workspace:dev/agent:{balances.name}")
    assert balances.scopes(agent=balances.name) == [owned]
    assert balances.refused(403, tenant=other.name) == "FORBIDDEN"
    assert balances.refused(403, tenant=other.name, agent="a") == "FORBIDDEN"
    operator = Reader(running.url, ADMIN_KEY, header="X-Admin-API-Key")
    assert operator.get(PATH, tenant=balances.name).status_code == 401


def test_a_scope_filter_limits_what_is_seen(running: Any) -> None:
    balances = Balances(running, scope_filter=["workspace:dev"])
    balances.put()
    dev = balances.put("workspace:dev")
    bot = balances.put("workspace:dev/agent:bot")
    balances.put("workspace:prod")
    assert balances.scopes(tenant=balances.name) == [dev, bot]


def test_what_cannot_be_read_hides_itself_only(balances: Balances) -> None:
    good = balances.put("agent:good")
    balances.put("agent:a", remaining="many")
    balances.put("agent:b", spent=-1)
    balances.put("agent:c", allocated=2**63)
    balances.put("agent:d", unit="EUROS")
    redis, names = balances.tenant.redis, balances.tenant.names
    for wrong in (f"tenant:{balances.name}/agent:e", f"tenant:{balances.name}/agent:z"):
        key = names.budget(wrong, "TOKENS")
        redis.set(key, "x")
        redis.sadd(names.budgets, key)
    assert balances.scopes(tenant=balances.name, limit=1) == [good]


def test_a_flag_that_another_server_left_behind_the_debt(balances: Balances) -> None:
    """Its scope takes no reservation, and says so everywhere."""
    balances.put(debt=5, overdraft_limit=3, is_over_limit="false")
    balances.put("agent:a", debt=3, overdraft_limit=3, is_over_limit="false")
    rows = balances.reader.rows(PATH, "balances", tenant=balances.name)
    assert [row.get("is_over_limit", False) for row in rows] == [True, False]
    dry = balances.tenant.reserve(1, dry_run=True).json()
    assert [row["is_over_limit"] for row in dry["balances"]] == [True]


def test_the_cost_is_the_page(start: Callable[..., Any]) -> None:
    running = start(CYCLES_EXPIRY_INTERVAL_MS="3600000")
    balances, other = Balances(running), Balances(running)
    for place in range(300):
        balances.put(f"agent:bot-{place:03}")
        other.put(f"agent:bot-{place:03}")
    balances.scopes(agent="none")  # from here on the key is known
    count = CommandCount(running.redis)
    page = balances.reader.page(PATH, tenant=balances.name, limit=20)
    balances.reader.page(PATH, tenant=balances.name, limit=20, cursor=page["next_cursor"])
    spent = count.spent()
    assert spent["smembers"] == 2
    assert spent["hmget"] == 2 * 21
    assert not {"keys", "scan", "hgetall"} & spent.keys()
