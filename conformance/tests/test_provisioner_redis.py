"""What RedisProvisioner leaves in the store, in the shapes that the reference deployment reads."""

from __future__ import annotations

import importlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import pytest
from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    Provisioner,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners.redis import RedisProvisioner

MAX = 2**63 - 1


@pytest.fixture
def provisioner(store: Any, redis_url: str) -> Iterator[RedisProvisioner]:
    provisioner = RedisProvisioner(redis_url)
    yield provisioner
    provisioner.close()


def given(*budgets: BudgetSpec, **tenant: Any) -> Given:
    return Given(
        (TenantSpec("tenant", **tenant),), (KeySpec("tenant", "tenant"),), budgets or (budget(),)
    )


def budget(allocated: int = 1000, **rest: Any) -> BudgetSpec:
    return BudgetSpec("tenant", rest.pop("scope", ""), "TOKENS", allocated, **rest)


def stored(store: Any, prepared: Prepared, path: str = "", unit: str = "TOKENS") -> dict[str, str]:
    scope = f"tenant:{prepared.tenants['tenant']}" + (f"/{path}" if path else "")
    row: dict[str, str] = store.hgetall(f"budget:{scope}:{unit}")
    return row


def amounts(row: dict[str, str]) -> dict[str, str]:
    names = ("allocated", "remaining", "reserved", "spent", "debt", "is_over_limit", "status")
    return {name: row[name] for name in names}


def key_record(store: Any, secret: str) -> dict[str, Any]:
    key_id = store.get(f"apikey:lookup:{secret[:14]}")
    record: dict[str, Any] = json.loads(store.get(f"apikey:{key_id}"))
    assert record["key_id"] == key_id
    return record


def instant(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text)


# -- tenants -----------------------------------------------------------------------------------


def test_a_tenant_has_a_fresh_id_a_record_and_its_place_in_the_index(
    provisioner: Provisioner, store: Any
) -> None:
    first, second = provisioner.prepare(given()), provisioner.prepare(given())
    assert first.tenants["tenant"] != second.tenants["tenant"]
    for prepared in (first, second):
        tenant_id = prepared.tenants["tenant"]
        assert re.fullmatch(r"ck-[0-9a-f]{12}", tenant_id)
        record = json.loads(store.get(f"tenant:{tenant_id}"))
        assert instant(record.pop("created_at")) <= datetime.now(UTC)
        assert record == {
            "tenant_id": tenant_id,
            "name": tenant_id,
            "status": "ACTIVE",
            "default_commit_overage_policy": "ALLOW_IF_AVAILABLE",
            "default_reservation_ttl_ms": 60_000,
            "max_reservation_ttl_ms": 3_600_000,
            "max_reservation_extensions": 10,
        }
    assert store.smembers("tenants") == set(first.tenants.values()) | set(second.tenants.values())


def test_settings_of_the_case_stand_in_the_record(provisioner: Provisioner, store: Any) -> None:
    settings = {"default_reservation_ttl_ms": 5000, "max_reservation_extensions": 0}
    prepared = provisioner.prepare(given(settings=settings))
    record = json.loads(store.get(f"tenant:{prepared.tenants['tenant']}"))
    assert {name: record[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("status", "stamp"), [("SUSPENDED", "suspended_at"), ("CLOSED", "closed_at")]
)
def test_a_status_comes_with_its_time(
    provisioner: Provisioner, store: Any, status: str, stamp: str
) -> None:
    prepared = provisioner.prepare(given(status=status))
    record = json.loads(store.get(f"tenant:{prepared.tenants['tenant']}"))
    assert record["status"] == status
    assert instant(record[stamp])


def test_a_tenant_without_a_record_still_has_keys_and_budgets(
    provisioner: Provisioner, store: Any
) -> None:
    prepared = provisioner.prepare(given(record=False))
    assert not store.exists(f"tenant:{prepared.tenants['tenant']}", "tenants")
    assert key_record(store, prepared.secrets["tenant"])["status"] == "ACTIVE"
    assert stored(store, prepared)["allocated"] == "1000"


# -- keys --------------------------------------------------------------------------------------


def keys(provisioner: Provisioner, *specs: KeySpec) -> Prepared:
    return provisioner.prepare(Given((TenantSpec("tenant"),), specs, ()))


def test_a_key_is_found_by_its_prefix_and_proved_by_its_hash(
    provisioner: Provisioner, store: Any
) -> None:
    prepared = keys(provisioner, KeySpec("tenant", "tenant"))
    secret = prepared.secrets["tenant"]
    record = key_record(store, secret)
    assert secret.startswith("cyc_live_") and len(secret) == 41
    assert record["key_prefix"] == secret[:14]
    assert record["key_hash"].startswith("$2a$")
    assert bcrypt.checkpw(secret.encode(), record["key_hash"].encode())
    assert record["tenant_id"] == prepared.tenants["tenant"]
    assert store.smembers(f"apikeys:{prepared.tenants['tenant']}") == {record["key_id"]}
    assert instant(record["created_at"]) < datetime.now(UTC) < instant(record["expires_at"])
    assert {"reservations:create", "reservations:list", "balances:read"} < set(
        record["permissions"]
    )
    assert not any(name.startswith("admin:") for name in record["permissions"])


def test_what_a_key_is_asked_to_be(provisioner: Provisioner, store: Any) -> None:
    prepared = keys(
        provisioner,
        KeySpec("reader", "tenant", permissions=("balances:read",)),
        KeySpec("nothing", "tenant", permissions=()),
        KeySpec("narrow", "tenant", scope_filter=("workspace:eng",)),
        KeySpec("revoked", "tenant", revoked=True),
        KeySpec("expired", "tenant", expired=True),
        KeySpec("brief", "tenant", expires_in=40),
    )
    records = {name: key_record(store, secret) for name, secret in prepared.secrets.items()}
    assert records["reader"]["permissions"] == ["balances:read"]
    assert records["nothing"]["permissions"] == []
    assert records["narrow"]["scope_filter"] == ["workspace:eng"]
    assert "scope_filter" not in records["reader"]
    assert records["revoked"]["status"] == "REVOKED" and instant(records["revoked"]["revoked_at"])
    assert records["expired"]["status"] == "ACTIVE"
    assert instant(records["expired"]["expires_at"]) < datetime.now(UTC)
    left = instant(records["brief"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=40)


def test_no_key_takes_the_prefix_of_another(
    provisioner: Provisioner, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(["sameXaaa", "sameXbbb", "otherccc"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: next(drawn))
    first = keys(provisioner, KeySpec("tenant", "tenant")).secrets["tenant"]
    second = keys(provisioner, KeySpec("tenant", "tenant")).secrets["tenant"]
    assert (first, second) == ("cyc_live_sameXaaa", "cyc_live_otherccc")
    assert bcrypt.checkpw(first.encode(), key_record(store, first)["key_hash"].encode())


# -- budgets -----------------------------------------------------------------------------------


def test_a_budget_is_a_hash_of_exact_decimals(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(
        given(budget(MAX), budget(2**53 + 1, scope="workspace:Eng/agent:bot"))
    )
    tenant_id = prepared.tenants["tenant"]
    row = stored(store, prepared)
    assert re.fullmatch(r"[0-9a-f-]{36}", row.pop("ledger_id"))
    assert re.fullmatch(r"\d{13}", row.pop("created_at"))
    assert row == {
        "tenant_id": tenant_id,
        "scope": f"tenant:{tenant_id}",
        "unit": "TOKENS",
        "allocated": "9223372036854775807",
        "remaining": "9223372036854775807",
        "reserved": "0",
        "spent": "0",
        "debt": "0",
        "overdraft_limit": "0",
        "is_over_limit": "false",
        "status": "ACTIVE",
    }
    deep = stored(store, prepared, "workspace:eng/agent:bot")
    assert deep["remaining"] == "9007199254740993"
    assert store.smembers(f"budgets:{tenant_id}") == {
        f"budget:tenant:{tenant_id}:TOKENS",
        f"budget:tenant:{tenant_id}/workspace:eng/agent:bot:TOKENS",
    }


@pytest.mark.parametrize(
    ("debt", "limit", "specified", "flag"),
    [
        (10, 10, None, "false"),
        (11, 10, None, "true"),
        (0, 0, True, "true"),
        (11, 10, False, "false"),
    ],
)
def test_debt_and_the_flag(
    provisioner: Provisioner, store: Any, debt: int, limit: int, specified: bool | None, flag: str
) -> None:
    spec = budget(1000, debt=debt, overdraft_limit=limit, is_over_limit=specified)
    row = stored(store, provisioner.prepare(given(spec)))
    assert row["debt"] == str(debt)
    assert row["remaining"] == str(1000 - debt)
    assert row["overdraft_limit"] == str(limit)
    assert row["is_over_limit"] == flag


def test_debt_beyond_the_allocation_makes_remaining_negative(
    provisioner: Provisioner, store: Any
) -> None:
    row = stored(store, provisioner.prepare(given(budget(5, debt=12))))
    assert row["remaining"] == "-7"


def test_the_other_attributes_of_a_budget(provisioner: Provisioner, store: Any) -> None:
    caps = {"max_tokens": 5, "tool_allowlist": ["a"]}
    spec = budget(status="FROZEN", commit_overage_policy="REJECT", caps=caps)
    row = stored(store, provisioner.prepare(given(spec)))
    assert (row["status"], row["commit_overage_policy"]) == ("FROZEN", "REJECT")
    assert json.loads(row["caps_json"]) == caps
    closed = stored(store, provisioner.prepare(given(budget(status="CLOSED"))))
    assert closed["status"] == "CLOSED" and closed["closed_at"]


def test_budgets_of_several_tenants(provisioner: Provisioner, store: Any) -> None:
    spec = Given(
        (TenantSpec("tenant"), TenantSpec("other")),
        (KeySpec("tenant", "tenant"), KeySpec("other", "other")),
        (budget(), BudgetSpec("other", "", "CREDITS", 7)),
    )
    prepared = provisioner.prepare(spec)
    other = prepared.tenants["other"]
    assert store.hget(f"budget:tenant:{other}:CREDITS", "tenant_id") == other
    assert key_record(store, prepared.secrets["other"])["tenant_id"] == other


def test_nothing_is_lacking(provisioner: Provisioner) -> None:
    assert (
        provisioner.lacks(given(budget(debt=1, caps={}, is_over_limit=True), record=False)) is None
    )


# -- changes -----------------------------------------------------------------------------------


def change(provisioner: Provisioner, prepared: Prepared, kind: str, amount: int = 0) -> None:
    provisioner.change(prepared, Change(kind, unit="TOKENS", amount=amount))


def test_freeze_and_unfreeze(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given())
    before = amounts(stored(store, prepared))
    change(provisioner, prepared, "freeze")
    assert amounts(stored(store, prepared)) == {**before, "status": "FROZEN"}
    change(provisioner, prepared, "unfreeze")
    assert amounts(stored(store, prepared)) == before


def test_closing_a_budget_returns_its_holds(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given(budget(500)))
    place = f"budget:tenant:{prepared.tenants['tenant']}:TOKENS"
    store.hset(place, mapping={"remaining": "350", "reserved": "100", "spent": "50"})
    change(provisioner, prepared, "close_budget")
    row = stored(store, prepared)
    assert (row["status"], row["reserved"], row["remaining"], row["spent"]) == (
        "CLOSED",
        "0",
        "450",
        "50",
    )
    assert row["closed_at"] == row["updated_at"]


@pytest.mark.parametrize(
    ("kind", "amount", "allocated", "remaining", "debt", "flag"),
    [
        ("fund", 2**53, 2**53 + 1001, 2**53 + 951, 50, "true"),
        ("repay", 20, 1001, 971, 30, "false"),
        ("repay", 120, 1071, 1071, 0, "false"),
    ],
)
def test_funding_is_exact(
    provisioner: Provisioner,
    store: Any,
    kind: str,
    amount: int,
    allocated: int,
    remaining: int,
    debt: int,
    flag: str,
) -> None:
    prepared = provisioner.prepare(given(budget(1001, debt=50, overdraft_limit=40)))
    change(provisioner, prepared, kind, amount)
    row = stored(store, prepared)
    assert (row["allocated"], row["remaining"], row["debt"], row["is_over_limit"]) == (
        str(allocated),
        str(remaining),
        str(debt),
        flag,
    )


def test_no_funding_beyond_an_int64(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given(budget(MAX)))
    before = stored(store, prepared)
    with pytest.raises(ProvisioningError, match="int64"):
        change(provisioner, prepared, "fund", 1)
    assert stored(store, prepared) == before


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("FROZEN", "freeze"),
        ("ACTIVE", "unfreeze"),
        ("CLOSED", "freeze"),
        ("CLOSED", "close_budget"),
        ("FROZEN", "fund"),
        ("CLOSED", "repay"),
    ],
)
def test_what_the_admin_api_refuses_is_refused(
    provisioner: Provisioner, store: Any, status: str, kind: str
) -> None:
    prepared = provisioner.prepare(given(budget(status=status)))
    before = stored(store, prepared)
    with pytest.raises(ProvisioningError, match=f"{kind}: tenant:ck-.* is {status}"):
        change(provisioner, prepared, kind, 1)
    assert stored(store, prepared) == before


def test_a_budget_that_is_not_there(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given())
    with pytest.raises(ProvisioningError, match=r"there is no budget:tenant:ck-.*:CREDITS"):
        provisioner.change(prepared, Change("freeze", unit="CREDITS"))


def test_a_live_server_may_write_at_the_same_time(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given(budget(0)))
    place = f"budget:tenant:{prepared.tenants['tenant']}:TOKENS"

    def reserve() -> None:
        script = store.register_script(
            "redis.call('HINCRBY', KEYS[1], 'remaining', -1)"
            "redis.call('HINCRBY', KEYS[1], 'reserved', 1)"
        )
        for _ in range(200):
            script(keys=[place])

    def fund() -> None:
        for _ in range(50):
            change(provisioner, prepared, "fund", 10)

    threads = [threading.Thread(target=work) for work in (reserve, reserve, fund, fund)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = stored(store, prepared)
    assert (row["allocated"], row["remaining"], row["reserved"]) == ("1000", "600", "400")


@pytest.mark.parametrize(
    ("kind", "status", "stamp"),
    [("close_tenant", "CLOSED", "closed_at"), ("suspend_tenant", "SUSPENDED", "suspended_at")],
)
def test_the_status_of_a_tenant(
    provisioner: Provisioner, store: Any, kind: str, status: str, stamp: str
) -> None:
    prepared = provisioner.prepare(given(settings={"max_reservation_extensions": 3}))
    provisioner.change(prepared, Change(kind))
    record = json.loads(store.get(f"tenant:{prepared.tenants['tenant']}"))
    assert (record["status"], record["max_reservation_extensions"]) == (status, 3)
    assert instant(record[stamp]) == instant(record["updated_at"])
    assert key_record(store, prepared.secrets["tenant"])["status"] == "ACTIVE"


def test_a_corrupt_tenant_record_is_no_json(provisioner: Provisioner, store: Any) -> None:
    prepared = provisioner.prepare(given())
    provisioner.change(prepared, Change("corrupt_tenant"))
    with pytest.raises(ValueError):
        json.loads(store.get(f"tenant:{prepared.tenants['tenant']}"))
    with pytest.raises(ProvisioningError, match="no readable tenant:ck-"):
        provisioner.change(prepared, Change("close_tenant"))


def test_revoke(provisioner: Provisioner, store: Any) -> None:
    prepared = keys(provisioner, KeySpec("tenant", "tenant"), KeySpec("reader", "tenant"))
    provisioner.change(prepared, Change("revoke", key="reader"))
    assert key_record(store, prepared.secrets["reader"])["status"] == "REVOKED"
    assert key_record(store, prepared.secrets["tenant"])["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Change("melt"), "no such change: 'melt'"),
        (Change("freeze", tenant="nobody"), "no tenant named 'nobody'"),
        (Change("revoke", key="none"), "no key named 'none'"),
    ],
)
def test_changes_that_name_nothing(provisioner: Provisioner, wrong: Change, says: str) -> None:
    with pytest.raises(ProvisioningError, match=says):
        provisioner.change(provisioner.prepare(given()), wrong)


# -- failures ----------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(ProvisioningError) as failure:
        RedisProvisioner("redis://user:hunter2@127.0.0.1:1/5")
    message = str(failure.value)
    assert message.startswith("redis://127.0.0.1:1/5: ")
    assert "hunter2" not in message and "\n" not in message


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://x:notaport", ""])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ProvisioningError):
        RedisProvisioner(url)


@pytest.mark.parametrize("missing", ["redis", "bcrypt"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, missing, None)
        patch.delitem(sys.modules, "cycles_conformance.provisioners.redis")
        with pytest.raises(ProvisioningError, match=r"pip install 'cycles-conformance\[redis\]'"):
            importlib.import_module("cycles_conformance.provisioners.redis")
