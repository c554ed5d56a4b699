"""What AdminProvisioner asks of a governance API, and what it makes of its answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners import admin as module
from cycles_conformance.provisioners.admin import AdminProvisioner
from standin.admin import ADMIN_KEY, AdminStandIn, Reply


@pytest.fixture
def server() -> Iterator[AdminStandIn]:
    server = AdminStandIn()
    yield server
    server.close()
    assert server.faults == []


@pytest.fixture
def provisioner(server: AdminStandIn) -> Iterator[AdminProvisioner]:
    provisioner = AdminProvisioner(server.url, ADMIN_KEY)
    yield provisioner
    provisioner.close()


def given(
    *budgets: BudgetSpec, keys: tuple[KeySpec, ...] = (), changes: tuple[str, ...] = (), **rest: Any
) -> Given:
    return Given(
        (TenantSpec("tenant", **rest),),
        (KeySpec("tenant", "tenant"), *keys),
        budgets or (BudgetSpec("tenant", "", "TOKENS", 1000),),
        changes,
    )


def budget_of(server: AdminStandIn, prepared: Prepared, path: str = "") -> dict[str, Any]:
    return server.budgets[f"tenant:{prepared.tenants['tenant']}{path}", "TOKENS"]


def key_of(server: AdminStandIn, secret: str) -> dict[str, Any]:
    return next(key for key in server.keys.values() if key["secret"] == secret)


# -- making ------------------------------------------------------------------------------------


@pytest.mark.parametrize("created", [200, 201])
def test_a_tenant_with_its_key_and_budget(
    server: AdminStandIn, provisioner: AdminProvisioner, created: int
) -> None:
    server.created = created
    prepared = provisioner.prepare(given(settings={"default_reservation_ttl_ms": 5000}))
    tenant_id = prepared.tenants["tenant"]
    assert re.fullmatch(r"ck-[0-9a-f]{12}", tenant_id)
    assert server.tenants[tenant_id]["default_reservation_ttl_ms"] == 5000
    key = key_of(server, prepared.secrets["tenant"])
    assert key["tenant_id"] == tenant_id and "scope_filter" not in key
    assert {"reservations:create", "balances:read", "events:read"} < set(key["permissions"])
    assert budget_of(server, prepared)["allocated"] == {"unit": "TOKENS", "amount": 1000}


def test_a_base_url_may_have_a_path_of_its_own() -> None:
    server = AdminStandIn(prefix="/cycles/admin")
    for url in (server.url, server.url + "/", server.url + "/v1"):
        with closing(AdminProvisioner(url, ADMIN_KEY)) as provisioner:
            assert provisioner.prepare(given()).tenants["tenant"] in server.tenants
    server.close()


def test_what_a_key_is_asked_to_be(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(
        given(
            keys=(
                KeySpec("reader", "tenant", permissions=("balances:read",)),
                KeySpec("nothing", "tenant", permissions=()),
                KeySpec("narrow", "tenant", scope_filter=("workspace:eng", "agent:*")),
                KeySpec("revoked", "tenant", revoked=True),
                KeySpec("expired", "tenant", expired=True),
                KeySpec("brief", "tenant", expires_in=40),
            )
        )
    )
    keys = {name: key_of(server, secret) for name, secret in prepared.secrets.items()}
    assert keys["reader"]["permissions"] == ["balances:read"]
    assert keys["nothing"]["permissions"] == []
    assert keys["narrow"]["scope_filter"] == ["workspace:eng", "agent:*"]
    assert keys["revoked"]["status"] == "REVOKED"
    assert datetime.fromisoformat(keys["expired"]["expires_at"]) < datetime.now(UTC)
    left = datetime.fromisoformat(keys["brief"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=40)


def test_a_server_without_keys_that_are_born_expired(
    server: AdminStandIn, provisioner: AdminProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORT_LIFE_SECONDS", 0.2)
    server.takes_past_expiry = False
    prepared = provisioner.prepare(given(keys=(KeySpec("expired", "tenant", expired=True),)))
    expiry = key_of(server, prepared.secrets["expired"])["expires_at"]
    assert datetime.fromisoformat(expiry) < datetime.now(UTC)


def test_what_a_budget_is_asked_to_be(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    deep = BudgetSpec(
        "tenant",
        "workspace:Eng/agent:bot",
        "TOKENS",
        2**63 - 1,
        overdraft_limit=2**53 + 1,
        status="FROZEN",
        commit_overage_policy="ALLOW_WITH_OVERDRAFT",
        is_over_limit=False,
    )
    top = BudgetSpec("tenant", "", "TOKENS", 1)
    assert provisioner.lacks(given(deep, top)) is None
    budget = budget_of(server, provisioner.prepare(given(deep, top)), "/workspace:eng/agent:bot")
    assert budget["allocated"] == {"unit": "TOKENS", "amount": 2**63 - 1}
    assert budget["overdraft_limit"] == {"unit": "TOKENS", "amount": 2**53 + 1}
    assert budget["commit_overage_policy"] == "ALLOW_WITH_OVERDRAFT"
    assert budget["status"] == "FROZEN"
    made = [body["scope"] for _, path, _, body in server.requests if path == "/v1/admin/budgets"]
    assert [scope.count("/") for scope in made] == [0, 2]


@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
def test_a_status_comes_after_keys_and_budgets(
    server: AdminStandIn, provisioner: AdminProvisioner, status: str
) -> None:
    prepared = provisioner.prepare(given(status=status))
    assert server.tenants[prepared.tenants["tenant"]]["status"] == status
    assert budget_of(server, prepared)


def test_several_tenants(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(
        Given(
            (TenantSpec("tenant"), TenantSpec("other")),
            (KeySpec("tenant", "tenant"), KeySpec("other", "other")),
            (BudgetSpec("other", "", "CREDITS", 7),),
        )
    )
    other = prepared.tenants["other"]
    assert key_of(server, prepared.secrets["other"])["tenant_id"] == other
    assert server.budgets[f"tenant:{other}", "CREDITS"]["tenant_id"] == other


# -- changes -----------------------------------------------------------------------------------


def test_freeze_and_unfreeze(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(given())
    provisioner.change(prepared, Change("freeze", unit="TOKENS"))
    assert budget_of(server, prepared)["status"] == "FROZEN"
    provisioner.change(prepared, Change("unfreeze", unit="TOKENS"))
    assert budget_of(server, prepared)["status"] == "ACTIVE"


def test_fund_and_repay(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(given())
    provisioner.change(prepared, Change("fund", unit="TOKENS", amount=2**53 + 1))
    provisioner.change(prepared, Change("repay", unit="TOKENS", amount=3))
    assert budget_of(server, prepared)["funding"] == [("CREDIT", 2**53 + 1), ("REPAY_DEBT", 3)]
    keys = [body["idempotency_key"] for *_, body in server.requests if body and "amount" in body]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("kind", "status"), [("close_tenant", "CLOSED"), ("suspend_tenant", "SUSPENDED")]
)
def test_the_status_of_a_tenant(
    server: AdminStandIn, provisioner: AdminProvisioner, kind: str, status: str
) -> None:
    prepared = provisioner.prepare(given())
    provisioner.change(prepared, Change(kind))
    assert server.tenants[prepared.tenants["tenant"]]["status"] == status


def test_revoke(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(given(keys=(KeySpec("reader", "tenant"),)))
    provisioner.change(prepared, Change("revoke", key="reader"))
    assert key_of(server, prepared.secrets["reader"])["status"] == "REVOKED"
    assert key_of(server, prepared.secrets["tenant"])["status"] == "ACTIVE"


# -- limits ------------------------------------------------------------------------------------


def budget(**rest: Any) -> BudgetSpec:
    return BudgetSpec("tenant", "", "TOKENS", 1000, **rest)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (given(budget(debt=1)), "the admin API cannot put a budget into debt"),
        (given(budget(is_over_limit=True)), "the admin API cannot mark a budget as over its limit"),
        (given(budget(caps={})), "the admin API cannot give a budget caps"),
        (given(budget(status="CLOSED")), "the admin API cannot make a budget that is closed"),
        (given(record=False), "the admin API cannot make a tenant without a record"),
        (
            given(changes=("freeze", "close_budget")),
            "the admin API cannot close a budget during a case",
        ),
        (
            given(changes=("corrupt_tenant",)),
            "the admin API cannot make a tenant's record unreadable during a case",
        ),
        (
            given(keys=(KeySpec("k", "tenant", permissions=("decide",)),)),
            "the admin API knows no permission 'decide'",
        ),
    ],
)
def test_what_is_lacking_is_said(provisioner: AdminProvisioner, spec: Given, says: str) -> None:
    assert provisioner.lacks(spec) == says


def test_an_ordinary_case_lacks_nothing(provisioner: AdminProvisioner) -> None:
    changes = ("freeze", "unfreeze", "fund", "repay", "close_tenant", "suspend_tenant", "revoke")
    spec = given(changes=changes, status="SUSPENDED", settings={"max_reservation_extensions": 1})
    assert provisioner.lacks(spec) is None


# -- failures ----------------------------------------------------------------------------------


def failure_of(provisioner: AdminProvisioner, spec: Given | None = None) -> str:
    with pytest.raises(ProvisioningError) as failure:
        provisioner.prepare(spec or given())
    message = str(failure.value)
    assert "\n" not in message and ADMIN_KEY not in message
    return message


def test_a_refusal_says_where_and_why(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    twice = (budget(), budget())
    assert failure_of(provisioner, given(*twice)) == (
        "POST /v1/admin/budgets answered 409 DUPLICATE_RESOURCE: there is one already"
    )
    prepared = provisioner.prepare(given())
    with pytest.raises(ProvisioningError) as failure:
        provisioner.change(prepared, Change("freeze", unit="CREDITS"))
    assert str(failure.value) == (
        "POST /v1/admin/budgets/freeze answered 404 BUDGET_NOT_FOUND: "
        f"no CREDITS at tenant:{prepared.tenants['tenant']}"
    )


def test_a_wrong_admin_key(server: AdminStandIn) -> None:
    with closing(AdminProvisioner(server.url, "wrong")) as provisioner:
        message = failure_of(provisioner)
    assert message == "POST /v1/admin/tenants answered 401 UNAUTHORIZED: no valid admin key"


HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((200, HTML, b"<html>Log in</html>"), "answered 200 without a JSON object (text/html)"),
        ((502, HTML, b"<h1>Bad</h1>"), "answered 502 without an error body (text/html)"),
        ((500, {}, b""), "answered 500 without an error body (no content type)"),
        ((201, JSON, b"[1]"), "answered 201 without a JSON object (application/json)"),
        ((201, JSON, b"[" * 100_000), "answered 201 without a JSON object (application/json)"),
        (
            (302, {"Location": "http://127.0.0.1:1/"}, b""),
            "answered 302, a redirect, which is not followed",
        ),
        (
            (308, {"Location": "/elsewhere"}, b""),
            "answered 308, a redirect, which is not followed",
        ),
        (
            (404, JSON, b'{"detail": "nothing here"}'),
            "answered 404 without an error body (application/json)",
        ),
    ],
)
def test_answers_that_are_no_answer(
    server: AdminStandIn, provisioner: AdminProvisioner, reply: Reply, says: str
) -> None:
    server.reply = lambda method, target: reply
    assert failure_of(provisioner) == f"POST /v1/admin/tenants {says}"


def test_a_redirect_is_not_followed(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    seen = []

    def reply(method: str, target: str) -> Reply:
        seen.append(target)
        return 307, {"Location": server.url + "/trap"}, b""

    server.reply = reply
    failure_of(provisioner)
    assert seen == ["/v1/admin/tenants"]


def test_a_key_without_its_secret(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    server.reply = lambda method, target: (201, JSON, b'{"key_id": "k"}')
    assert (
        failure_of(provisioner) == "POST /v1/admin/api-keys answered without key_id and key_secret"
    )


def test_no_answer_in_time(server: AdminStandIn) -> None:
    def reply(method: str, target: str) -> Reply:
        time.sleep(0.5)
        return 200, JSON, b"{}"

    server.reply = reply
    with closing(AdminProvisioner(server.url, ADMIN_KEY, timeout=0.1)) as provisioner:
        message = failure_of(provisioner)
    assert message == "POST /v1/admin/tenants: no answer within 0.1 s"


def test_nobody_listens() -> None:
    with closing(AdminProvisioner("http://127.0.0.1:1", ADMIN_KEY)) as provisioner:
        message = failure_of(provisioner)
    assert message.startswith("POST /v1/admin/tenants: no answer: ")
    assert "refused" in message


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://[::1"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ProvisioningError, match="admin URL"):
        AdminProvisioner(url, ADMIN_KEY)


@pytest.mark.parametrize("key", ["", "clé", "a\nb"])
def test_a_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(ProvisioningError, match="admin key"):
        AdminProvisioner("http://localhost", key)


def test_changes_that_cannot_be_made(server: AdminStandIn, provisioner: AdminProvisioner) -> None:
    prepared = provisioner.prepare(given())
    for change, says in (
        (Change("close_budget"), "the admin API cannot close a budget during a case"),
        (Change("melt"), "the admin API cannot do 'melt'"),
        (Change("freeze", tenant="nobody"), "the case has no tenant named 'nobody'"),
    ):
        with pytest.raises(ProvisioningError) as failure:
            provisioner.change(prepared, change)
        assert str(failure.value) == says
