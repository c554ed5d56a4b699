"""Which tenants of a pool are handed out, and what is said about files that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners.fixtures import FixturesProvisioner

Pool = Callable[..., FixturesProvisioner]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    def make(*tenants: dict[str, Any]) -> FixturesProvisioner:
        file = tmp_path / "fixtures.yaml"
        file.write_text(yaml.safe_dump({"tenants": list(tenants)}))
        return FixturesProvisioner(file)

    return make


def entry(tenant_id: str, *budgets: dict[str, Any], **rest: Any) -> dict[str, Any]:
    keys = rest.pop("keys", [{}])
    return {
        "id": tenant_id,
        "keys": [{"secret": f"{tenant_id}-{number}", **key} for number, key in enumerate(keys)],
        "budgets": list(budgets or ({"unit": "TOKENS", "allocated": 1000},)),
        **rest,
    }


def given(*budgets: BudgetSpec, keys: tuple[KeySpec, ...] = (), **rest: Any) -> Given:
    changes, shared = rest.pop("changes", ()), rest.pop("shared", False)
    return Given(
        (TenantSpec("tenant", **rest),),
        (KeySpec("tenant", "tenant"), *keys),
        budgets or (BudgetSpec("tenant", "", "TOKENS", 1000),),
        changes,
        shared,
    )


def failure_of(act: Callable[[], object]) -> str:
    with pytest.raises(ProvisioningError) as failure:
        act()
    message = str(failure.value)
    assert "\n" not in message
    return message


# -- fitting -----------------------------------------------------------------------------------


def test_an_entry_is_used_once(pool: Pool) -> None:
    provisioner = pool(entry("one"), entry("two"))
    found = [provisioner.prepare(given()), provisioner.prepare(given())]
    assert found[0] == Prepared({"tenant": "one"}, {"tenant": "one-0"})
    assert found[1].tenants == {"tenant": "two"}
    says = "the fixtures have no unused tenant with TOKENS 1000"
    assert provisioner.lacks(given()) == says
    assert failure_of(lambda: provisioner.prepare(given())) == says


def test_what_lacks_has_found_is_kept_for_its_case(pool: Pool) -> None:
    provisioner = pool(entry("one"), entry("two"))
    first, second = given(), given()
    assert provisioner.lacks(first) is None
    assert provisioner.lacks(first) is None
    assert provisioner.lacks(second) is None
    assert provisioner.lacks(given()) is not None
    assert provisioner.prepare(second).tenants == {"tenant": "two"}
    assert provisioner.prepare(first).tenants == {"tenant": "one"}


def test_a_shared_entry_serves_all_shared_cases_and_no_others(pool: Pool) -> None:
    provisioner = pool(entry("all", shared=True))
    assert provisioner.lacks(given()) == "the fixtures have no unused tenant with TOKENS 1000"
    for _ in range(3):
        spec = given(shared=True)
        assert provisioner.lacks(spec) is None
        assert provisioner.prepare(spec).tenants == {"tenant": "all"}
    other = given(BudgetSpec("tenant", "", "CREDITS", 5), shared=True)
    assert provisioner.lacks(other) == "the fixtures have no shared tenant with CREDITS 5"


BUDGET = {"unit": "TOKENS", "allocated": 1000}


@pytest.mark.parametrize(
    ("entries", "spec"),
    [
        ([entry("x", {**BUDGET, "debt": 5})], BudgetSpec("tenant", "", "TOKENS", 1000, debt=5)),
        (
            [entry("x", {**BUDGET, "scope": "workspace:Eng"})],
            BudgetSpec("tenant", "workspace:eng", "TOKENS", 1000),
        ),
        (
            [entry("x", {**BUDGET, "overdraft_limit": 9, "commit_overage_policy": "REJECT"})],
            BudgetSpec(
                "tenant", "", "TOKENS", 1000, overdraft_limit=9, commit_overage_policy="REJECT"
            ),
        ),
        (
            [entry("x", {**BUDGET, "caps": {"max_tokens": 3}, "status": "FROZEN"})],
            BudgetSpec("tenant", "", "TOKENS", 1000, caps={"max_tokens": 3}, status="FROZEN"),
        ),
        (
            [entry("x", {**BUDGET, "is_over_limit": True})],
            BudgetSpec("tenant", "", "TOKENS", 1000, is_over_limit=True),
        ),
    ],
)
def test_budgets_fit_by_every_attribute(
    pool: Pool, entries: list[dict[str, Any]], spec: BudgetSpec
) -> None:
    provisioner = pool(*entries)
    assert provisioner.lacks(given()) is not None
    assert provisioner.prepare(given(spec)).tenants == {"tenant": "x"}


def test_no_budget_more_and_none_less(pool: Pool) -> None:
    two = (BudgetSpec("tenant", "", "TOKENS", 1000), BudgetSpec("tenant", "", "CREDITS", 5))
    provisioner = pool(entry("one"), entry("two", BUDGET, {"unit": "CREDITS", "allocated": 5}))
    assert provisioner.prepare(given(*two)).tenants == {"tenant": "two"}
    assert provisioner.lacks(given(*two)) == (
        "the fixtures have no unused tenant with TOKENS 1000, CREDITS 5"
    )
    without = Given((TenantSpec("tenant"),), (KeySpec("tenant", "tenant"),), ())
    assert provisioner.lacks(without) == "the fixtures have no unused tenant with no budget"


def test_settings_and_status_fit(pool: Pool) -> None:
    provisioner = pool(
        entry("plain"),
        entry("slow", settings={"default_reservation_ttl_ms": 5000}),
        entry("asleep", status="SUSPENDED"),
        entry("bare", record=False),
    )
    settings = {"default_reservation_ttl_ms": 5000}
    assert provisioner.prepare(given(settings=settings)).tenants == {"tenant": "slow"}
    assert provisioner.prepare(given(status="SUSPENDED")).tenants == {"tenant": "asleep"}
    assert provisioner.prepare(given(record=False)).tenants == {"tenant": "bare"}
    assert provisioner.lacks(given(settings=settings, status="CLOSED", record=False)) == (
        "the fixtures have no unused tenant with TOKENS 1000, default_reservation_ttl_ms 5000, "
        "status CLOSED, no record"
    )


def test_keys_fit_by_what_they_may(pool: Pool) -> None:
    keys = [
        {"permissions": ["reservations:list", "balances:read"]},
        {"scope_filter": ["workspace:eng"]},
        {"expired": True},
        {"revoked": True},
        {},
    ]
    specs = (
        KeySpec("reader", "tenant", ("balances:read", "reservations:list")),
        KeySpec("narrow", "tenant", scope_filter=("workspace:eng",)),
        KeySpec("late", "tenant", expired=True),
        KeySpec("gone", "tenant", revoked=True),
    )
    provisioner = pool(entry("x", keys=keys))
    assert provisioner.prepare(given(keys=specs)).secrets == {
        "reader": "x-0",
        "narrow": "x-1",
        "late": "x-2",
        "gone": "x-3",
        "tenant": "x-4",
    }
    assert provisioner.lacks(given(keys=specs[:3])) == (
        "the fixtures have no unused tenant with TOKENS 1000, "
        "a key (permissions balances:read reservations:list), "
        "a key (scope filter workspace:eng), a key (expired)"
    )


def test_no_key_expires_during_a_case(pool: Pool) -> None:
    brief = given(keys=(KeySpec("brief", "tenant", expires_in=5),))
    told = "the fixtures cannot make a key that expires during a case"
    assert pool(entry("one", keys=[{}, {}])).lacks(brief) == told


def test_two_keys_alike_are_two_keys(pool: Pool) -> None:
    second = (KeySpec("second", "tenant"),)
    provisioner = pool(entry("one"), entry("two", keys=[{}, {}]))
    assert set(provisioner.prepare(given(keys=second)).secrets.values()) == {"two-0", "two-1"}
    assert provisioner.lacks(given(keys=second)) is not None


def test_an_entry_with_more_keys_is_left_for_those_who_need_them(pool: Pool) -> None:
    reader = {"permissions": ["balances:read"]}
    provisioner = pool(entry("rich", keys=[{}, reader]), entry("poor"))
    assert provisioner.prepare(given()).tenants == {"tenant": "poor"}
    assert provisioner.prepare(
        given(keys=(KeySpec("r", "tenant", ("balances:read",)),))
    ).tenants == {"tenant": "rich"}


def test_several_tenants_take_several_entries(pool: Pool) -> None:
    spec = Given(
        (TenantSpec("tenant"), TenantSpec("other")),
        (
            KeySpec("tenant", "tenant"),
            KeySpec("other", "other"),
            KeySpec("reader", "other", ("balances:read",)),
        ),
        (BudgetSpec("tenant", "", "TOKENS", 1000), BudgetSpec("other", "", "TOKENS", 1000)),
    )
    reader = {"permissions": ["balances:read"]}
    provisioner = pool(entry("rich", keys=[{}, reader]), entry("poor"), entry("third"))
    assert provisioner.prepare(spec) == Prepared(
        {"other": "rich", "tenant": "poor"},
        {"other": "rich-0", "reader": "rich-1", "tenant": "poor-0"},
    )
    # A case that cannot be served takes nothing.
    assert provisioner.lacks(spec) is not None
    assert provisioner.prepare(given()).tenants == {"tenant": "third"}


def test_many_threads_never_share_an_entry(pool: Pool) -> None:
    provisioner = pool(*(entry(f"t{number}") for number in range(50)))
    found: list[str] = []

    def take() -> None:
        for _ in range(10):
            spec = given()
            assert provisioner.lacks(spec) is None
            found.append(provisioner.prepare(spec).tenants["tenant"])

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"t{number}" for number in range(50))


def test_nothing_can_be_changed(pool: Pool) -> None:
    provisioner = pool(entry("one"))
    assert provisioner.lacks(given(changes=("freeze",))) == (
        "the fixtures cannot freeze a budget during a case"
    )
    prepared = provisioner.prepare(given())
    assert failure_of(lambda: provisioner.change(prepared, Change("revoke"))) == (
        "the fixtures cannot revoke a key during a case"
    )


# -- the file ----------------------------------------------------------------------------------


def test_a_file_may_be_json(tmp_path: Path) -> None:
    file = tmp_path / "pool.json"
    file.write_text(json.dumps({"tenants": [entry("one")]}, indent="\t"))
    assert FixturesProvisioner(str(file)).prepare(given()).tenants == {"tenant": "one"}


ONE = "tenants: [{id: a, keys: [{secret: s1}], budgets: [%s]}]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the document: None is not of type 'object'"),
        ("tenants: []", "/tenants: [] should be non-empty"),
        ("tenants: [{id: a}]", "/tenants/0: 'keys' is a required property"),
        ("tenants:\n  - id: a\n   keys: x", "line 3, column 4: "),
        ("{'tenants': [", "line "),
        (
            ONE % "{unit: TOKENS, allocated: 1e3}",
            "/tenants/0/budgets/0/allocated: '1e3' is not of type 'integer'",
        ),
        (
            ONE % "{unit: TOKEN, allocated: 1}",
            "/tenants/0/budgets/0/unit: 'TOKEN' is not one of "
            "['USD_MICROCENTS', 'TOKENS', 'CREDITS', 'RISK_POINTS']",
        ),
        (
            ONE % "{unit: TOKENS, allocated: 1, spent: 5}",
            "/tenants/0/budgets/0: Additional properties are not allowed ('spent' was unexpected)",
        ),
        (
            "tenants: [{id: a, keys: [{secret: 'a secret with blanks'}]}]",
            "/tenants/0/keys/0/secret: not a text of visible ASCII characters",
        ),
        (
            "tenants: [{id: a, keys: [{secret: s}]}, {id: a, keys: [{secret: t}]}]",
            "/tenants/1/id: is in the file twice",
        ),
        (
            "tenants: [{id: a, keys: [{secret: s}]}, {id: b, keys: [{secret: s}]}]",
            "/tenants/1/keys: is in the file twice",
        ),
        ("tenants: !!python/object:os.system {}", "line 1, column 10: "),
        ("1: 2", "the document: "),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(text)
    assert failure_of(lambda: FixturesProvisioner(file)).startswith(f"{file}: {says}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert (
        failure_of(lambda: FixturesProvisioner(missing)) == f"{missing}: No such file or directory"
    )
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert failure_of(lambda: FixturesProvisioner(binary)) == f"{binary}: is not UTF-8"
