"""Which tenants of a pool FixedPlug hands out, and what it says about files that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cycles_conformance.provision import (
    BudgetWish,
    Change,
    Given,
    KeyWish,
    Prepared,
    ProvisioningError,
    TenantWish,
)
from cycles_conformance.provision.fixed import FixedPlug

Pool = Callable[..., FixedPlug]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    def make(*tenants: dict[str, Any]) -> FixedPlug:
        file = tmp_path / "fixtures.yaml"
        file.write_text(yaml.safe_dump({"tenants": list(tenants)}))
        return FixedPlug(file)

    return make


def entry(tenant_id: str, *budgets: dict[str, Any], **rest: Any) -> dict[str, Any]:
    keys = rest.pop("keys", [{}])
    return {
        "id": tenant_id,
        "keys": [{"secret": f"{tenant_id}-{number}", **key} for number, key in enumerate(keys)],
        "budgets": list(budgets or ({"unit": "TOKENS", "allocated": 1000},)),
        **rest,
    }


def given(*budgets: BudgetWish, keys: tuple[KeyWish, ...] = (), **rest: Any) -> Given:
    changes, shared = rest.pop("changes", ()), rest.pop("shared", False)
    return Given(
        (TenantWish("tenant", **rest),),
        (KeyWish("tenant", "tenant"), *keys),
        budgets or (BudgetWish("tenant", "", "TOKENS", 1000),),
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
    plug = pool(entry("one"), entry("two"))
    found = [plug.prepare(given()), plug.prepare(given())]
    assert found[0] == Prepared({"tenant": "one"}, {"tenant": "one-0"})
    assert found[1].tenants == {"tenant": "two"}
    says = "the fixtures have no unused tenant with TOKENS 1000"
    assert plug.lacks(given()) == says
    assert failure_of(lambda: plug.prepare(given())) == says


def test_what_lacks_has_found_is_kept_for_its_case(pool: Pool) -> None:
    plug = pool(entry("one"), entry("two"))
    first, second = given(), given()
    assert plug.lacks(first) is None
    assert plug.lacks(first) is None
    assert plug.lacks(second) is None
    assert plug.lacks(given()) is not None
    assert plug.prepare(second).tenants == {"tenant": "two"}
    assert plug.prepare(first).tenants == {"tenant": "one"}


def test_a_shared_entry_serves_all_shared_cases_and_no_others(pool: Pool) -> None:
    plug = pool(entry("all", shared=True))
    assert plug.lacks(given()) == "the fixtures have no unused tenant with TOKENS 1000"
    for _ in range(3):
        wish = given(shared=True)
        assert plug.lacks(wish) is None
        assert plug.prepare(wish).tenants == {"tenant": "all"}
    other = given(BudgetWish("tenant", "", "CREDITS", 5), shared=True)
    assert plug.lacks(other) == "the fixtures have no shared tenant with CREDITS 5"


BUDGET = {"unit": "TOKENS", "allocated": 1000}


@pytest.mark.parametrize(
    ("entries", "wish"),
    [
        ([entry("x", {**BUDGET, "debt": 5})], BudgetWish("tenant", "", "TOKENS", 1000, debt=5)),
        (
            [entry("x", {**BUDGET, "scope": "workspace:Eng"})],
            BudgetWish("tenant", "workspace:eng", "TOKENS", 1000),
        ),
        (
            [entry("x", {**BUDGET, "overdraft_limit": 9, "commit_overage_policy": "REJECT"})],
            BudgetWish(
                "tenant", "", "TOKENS", 1000, overdraft_limit=9, commit_overage_policy="REJECT"
            ),
        ),
        (
            [entry("x", {**BUDGET, "caps": {"max_tokens": 3}, "status": "FROZEN"})],
            BudgetWish("tenant", "", "TOKENS", 1000, caps={"max_tokens": 3}, status="FROZEN"),
        ),
        (
            [entry("x", {**BUDGET, "is_over_limit": True})],
            BudgetWish("tenant", "", "TOKENS", 1000, is_over_limit=True),
        ),
    ],
)
def test_budgets_fit_by_every_attribute(
    pool: Pool, entries: list[dict[str, Any]], wish: BudgetWish
) -> None:
    plug = pool(*entries)
    assert plug.lacks(given()) is not None
    assert plug.prepare(given(wish)).tenants == {"tenant": "x"}


def test_no_budget_more_and_none_less(pool: Pool) -> None:
    two = (BudgetWish("tenant", "", "TOKENS", 1000), BudgetWish("tenant", "", "CREDITS", 5))
    plug = pool(entry("one"), entry("two", BUDGET, {"unit": "CREDITS", "allocated": 5}))
    assert plug.prepare(given(*two)).tenants == {"tenant": "two"}
    assert plug.lacks(given(*two)) == (
        "the fixtures have no unused tenant with TOKENS 1000, CREDITS 5"
    )
    without = Given((TenantWish("tenant"),), (KeyWish("tenant", "tenant"),), ())
    assert plug.lacks(without) == "the fixtures have no unused tenant with no budget"


def test_settings_and_status_fit(pool: Pool) -> None:
    plug = pool(
        entry("plain"),
        entry("slow", settings={"default_reservation_ttl_ms": 5000}),
        entry("asleep", status="SUSPENDED"),
        entry("bare", record=False),
    )
    settings = {"default_reservation_ttl_ms": 5000}
    assert plug.prepare(given(settings=settings)).tenants == {"tenant": "slow"}
    assert plug.prepare(given(status="SUSPENDED")).tenants == {"tenant": "asleep"}
    assert plug.prepare(given(record=False)).tenants == {"tenant": "bare"}
    assert plug.lacks(given(settings=settings, status="CLOSED", record=False)) == (
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
    wishes = (
        KeyWish("reader", "tenant", ("balances:read", "reservations:list")),
        KeyWish("narrow", "tenant", scope_filter=("workspace:eng",)),
        KeyWish("late", "tenant", expired=True),
        KeyWish("gone", "tenant", revoked=True),
    )
    plug = pool(entry("x", keys=keys))
    assert plug.prepare(given(keys=wishes)).secrets == {
        "reader": "x-0",
        "narrow": "x-1",
        "late": "x-2",
        "gone": "x-3",
        "tenant": "x-4",
    }
    assert plug.lacks(given(keys=wishes[:3])) == (
        "the fixtures have no unused tenant with TOKENS 1000, "
        "a key (permissions balances:read reservations:list), "
        "a key (scope filter workspace:eng), a key (expired)"
    )


def test_two_keys_alike_are_two_keys(pool: Pool) -> None:
    second = (KeyWish("second", "tenant"),)
    plug = pool(entry("one"), entry("two", keys=[{}, {}]))
    assert set(plug.prepare(given(keys=second)).secrets.values()) == {"two-0", "two-1"}
    assert plug.lacks(given(keys=second)) is not None


def test_an_entry_with_more_keys_is_left_for_those_who_need_them(pool: Pool) -> None:
    reader = {"permissions": ["balances:read"]}
    plug = pool(entry("rich", keys=[{}, reader]), entry("poor"))
    assert plug.prepare(given()).tenants == {"tenant": "poor"}
    assert plug.prepare(given(keys=(KeyWish("r", "tenant", ("balances:read",)),))).tenants == {
        "tenant": "rich"
    }


def test_several_tenants_take_several_entries(pool: Pool) -> None:
    wish = Given(
        (TenantWish("tenant"), TenantWish("other")),
        (
            KeyWish("tenant", "tenant"),
            KeyWish("other", "other"),
            KeyWish("reader", "other", ("balances:read",)),
        ),
        (BudgetWish("tenant", "", "TOKENS", 1000), BudgetWish("other", "", "TOKENS", 1000)),
    )
    reader = {"permissions": ["balances:read"]}
    plug = pool(entry("rich", keys=[{}, reader]), entry("poor"), entry("third"))
    assert plug.prepare(wish) == Prepared(
        {"other": "rich", "tenant": "poor"},
        {"other": "rich-0", "reader": "rich-1", "tenant": "poor-0"},
    )
    # A case that cannot be served takes nothing.
    assert plug.lacks(wish) is not None
    assert plug.prepare(given()).tenants == {"tenant": "third"}


def test_many_threads_never_share_an_entry(pool: Pool) -> None:
    plug = pool(*(entry(f"t{number}") for number in range(50)))
    found: list[str] = []

    def take() -> None:
        for _ in range(10):
            wish = given()
            assert plug.lacks(wish) is None
            found.append(plug.prepare(wish).tenants["tenant"])

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"t{number}" for number in range(50))


def test_nothing_can_be_changed(pool: Pool) -> None:
    plug = pool(entry("one"))
    assert plug.lacks(given(changes=("freeze",))) == (
        "the fixtures cannot freeze a budget during a case"
    )
    prepared = plug.prepare(given())
    assert failure_of(lambda: plug.change(prepared, Change("revoke"))) == (
        "the fixtures cannot revoke a key during a case"
    )


# -- the file ----------------------------------------------------------------------------------


def test_a_file_may_be_json(tmp_path: Path) -> None:
    file = tmp_path / "pool.json"
    file.write_text(json.dumps({"tenants": [entry("one")]}, indent="\t"))
    assert FixedPlug(str(file)).prepare(given()).tenants == {"tenant": "one"}


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
    assert failure_of(lambda: FixedPlug(file)).startswith(f"{file}: {says}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert failure_of(lambda: FixedPlug(missing)) == f"{missing}: No such file or directory"
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert failure_of(lambda: FixedPlug(binary)) == f"{binary}: is not UTF-8"
