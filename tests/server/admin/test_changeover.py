"""Fundings while the reference's admin service and this server write to one store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key

DAY_MS = 86_400_000
BULK = "/v1/admin/budgets/bulk-action"


@pytest.fixture(scope="module")
def changing(
    store: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CyclesServer]:
    """This server during a change-over."""
    log = tmp_path_factory.mktemp("changeover") / "log"
    settings = {"CYCLES_REFERENCE_REPLAYS": "true"}
    server = CyclesServer(store.url, log, arguments=("admin",), settings=settings)
    yield server
    server.stop()


@pytest.fixture
def operator(changing: CyclesServer, store: RedisServer) -> Operator:
    return Operator(store.client, changing.url)


def written_hash(operation: str, amount: int, key: str, **more: Any) -> str:
    """What the reference keeps of a request: a digest of it as it writes it again."""
    members = {
        "operation": operation,
        "amount": {"unit": UNIT, "amount": amount},
        "spent": None,
        "reason": None,
        "idempotency_key": key,
        "metadata": None,
        **more,
    }
    return hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).hexdigest()


def now(operator: Operator) -> int:
    seconds, micros = operator.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


def was_credited(
    operator: Operator, tenant: Tenant, amount: int, key: str, *, ago_ms: int = 0, request: str = ""
) -> None:
    """The reference has credited the tenant's budget: under ``key``, for the request of that key or
    of ``request``."""
    record = tenant.names.budget(f"tenant:{tenant.name}", UNIT)
    before = tenant.amounts()
    after = operator.redis.hincrby(record, "allocated", amount)
    left = operator.redis.hincrby(record, "remaining", amount)
    operator.redis.hset(record, "updated_at", now(operator) - ago_ms)
    told = (before["allocated"], after, before["remaining"], left, 0, 0, "false", 0, 0)
    kept = {
        tenant.names.reference_funding(key): "|".join(map(str, told)),
        tenant.names.reference_funding_hash(key): written_hash("CREDIT", amount, request or key),
    }
    for name, value in kept.items():
        operator.redis.set(name, value, px=DAY_MS - ago_ms)


def funded(operator: Operator, allocated: int) -> Tenant:
    tenant = operator.tenant()
    operator.budget(tenant, allocated)
    return tenant


@pytest.mark.parametrize("ago_ms", [0, 20 * 3_600_000])
def test_what_the_reference_has_done_is_not_done_again(operator: Operator, ago_ms: int) -> None:
    tenant, key = funded(operator, 500), new_key()
    was_credited(operator, tenant, 100, key, ago_ms=ago_ms)
    answer = operator.fund(tenant, "CREDIT", 100, idempotency_key=key)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["previous_allocated"]["amount"], body["new_allocated"]["amount"]) == (500, 600)
    assert tenant.amounts()["allocated"] == 600
    other = operator.fund(tenant, "CREDIT", 101, idempotency_key=key)
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
    assert tenant.amounts()["allocated"] == 600


def test_after_another_funding_it_is_not_done_again_either(operator: Operator) -> None:
    tenant, key = funded(operator, 500), new_key()
    was_credited(operator, tenant, 100, key)
    assert operator.fund(tenant, "CREDIT", 1).status_code == 200
    answer = operator.fund(tenant, "CREDIT", 100, idempotency_key=key)
    assert error_of(answer) == (409, "IDEMPOTENCY_MISMATCH")
    assert tenant.amounts()["allocated"] == 601


@pytest.mark.parametrize("allocated", [500, 600])
@pytest.mark.parametrize("touched", [True, False])
def test_another_ledger_is_not_told_that_it_was_funded(
    operator: Operator, allocated: int, touched: bool
) -> None:
    """Also one with the very amounts that the funded one has."""
    tenant, other, key = funded(operator, 500), funded(operator, allocated), new_key()
    if touched:
        record = other.names.budget(f"tenant:{other.name}", UNIT)
        operator.redis.hset(record, "updated_at", now(operator) - 600_000)
    was_credited(operator, tenant, 100, key)
    answer = operator.fund(other, "CREDIT", 100, idempotency_key=key)
    assert error_of(answer) == (409, "IDEMPOTENCY_MISMATCH")
    assert other.amounts()["allocated"] == allocated


def test_what_is_done_here_is_kept_as_the_reference_keeps_it(operator: Operator) -> None:
    tenant, key = funded(operator, 500), new_key()
    assert operator.fund(tenant, "CREDIT", 7, idempotency_key=key).status_code == 200
    kept = operator.redis.get(tenant.names.reference_funding(key))
    assert kept == b"500|507|500|507|0|0|false|0|0"
    digest = operator.redis.get(tenant.names.reference_funding_hash(key))
    assert digest == written_hash("CREDIT", 7, key).encode()


def test_a_key_of_this_servers_own_belongs_to_one_ledger(operator: Operator) -> None:
    """However much another ledger is like the one that it has funded."""
    first, second, key = funded(operator, 500), funded(operator, 600), new_key()
    operator.fund(second, "CREDIT", 0)
    for tenant, allocated in ((first, 600), (second, 700), (first, 600), (second, 700)):
        answer = operator.fund(tenant, "CREDIT", 100, idempotency_key=key)
        assert answer.json()["new_allocated"]["amount"] == allocated
        assert tenant.amounts()["allocated"] == allocated


def act(operator: Operator, tenant: Tenant, amount: int, key: str) -> httpx.Response:
    body = {
        "action": "CREDIT",
        "amount": {"unit": UNIT, "amount": amount},
        "filter": {"tenant_id": tenant.name},
        "idempotency_key": key,
    }
    return operator.http.post(BULK, json=body)


def test_rows_of_a_bulk_action_are_not_done_again(operator: Operator) -> None:
    tenant, key = funded(operator, 500), new_key()
    operator.budget(tenant, 500, "/agent:new")
    row = f"{key}:tenant:{tenant.name}:{UNIT}"
    was_credited(operator, tenant, 100, row)
    # Another funding since makes no difference: a row's name tells its ledger.
    assert operator.fund(tenant, "CREDIT", 1).status_code == 200
    answer = act(operator, tenant, 100, key)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["succeeded"]) == 2
    assert tenant.amounts()["allocated"] == 601
    below = f"tenant:{tenant.name}/agent:new"
    assert tenant.amounts(below)["allocated"] == 600
    kept = operator.redis.get(tenant.names.reference_funding(f"{key}:{below}:{UNIT}"))
    assert kept == b"500|600|500|600|0|0|false|0|0"


def test_a_row_of_another_request_fails(operator: Operator) -> None:
    tenant, key = funded(operator, 500), new_key()
    was_credited(operator, tenant, 100, f"{key}:tenant:{tenant.name}:{UNIT}", request="other")
    [failed] = act(operator, tenant, 100, key).json()["failed"]
    assert failed["error_code"] == "IDEMPOTENCY_MISMATCH"
    assert tenant.amounts()["allocated"] == 600


def test_the_references_own_hash() -> None:
    # A request and its hash as they were seen in a store that the reference had written.
    body = {
        "operation": "CREDIT",
        "amount": {"unit": "USD_MICROCENTS", "amount": 7},
        "spent": None,
        "reason": None,
        "idempotency_key": "fund1",
        "metadata": None,
    }
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
    assert digest == "139e23bcfe693e7390b3aa7385d8b296c9f1eff3008eb2475d0866bb1ca4bc15"


@pytest.mark.parametrize(
    "more",
    [
        {"reason": "größer\n"},
        {"metadata": {"a": [1, 2.5, None], "b": "é"}},
        {"spent": {"unit": UNIT, "amount": 5}},
    ],
)
def test_every_member_of_a_funding_is_in_that_hash(
    operator: Operator, more: dict[str, Any]
) -> None:
    tenant, key = funded(operator, 1000), new_key()
    operation = "RESET_SPENT" if "spent" in more else "CREDIT"
    done = operator.fund(tenant, operation, 2000, idempotency_key=key, **more)
    assert done.status_code == 200
    members = ("operation", "amount", "spent", "reason", "idempotency_key", "metadata")
    body = {"operation": operation, "amount": {"unit": UNIT, "amount": 2000}, **more}
    body["idempotency_key"] = key
    written = {name: body.get(name) for name in members}
    text = json.dumps(written, separators=(",", ":"), ensure_ascii=False)
    kept = operator.redis.get(tenant.names.reference_funding_hash(key))
    assert kept == hashlib.sha256(text.encode()).hexdigest().encode()


def test_a_policy_that_the_reference_rewrote_is_still_its_tenants(operator: Operator) -> None:
    tenant = operator.tenant()
    body = {"tenant_id": tenant.name, "name": "p", "scope_pattern": f"tenant:{tenant.name}/*"}
    policy_id = operator.http.post("/v1/admin/policies", json=body).json()["policy_id"]
    record = json.loads(operator.redis.get(tenant.names.policy(policy_id)))
    del record["tenant_id"]  # a member of ours that the reference does not know, and drops
    operator.redis.set(tenant.names.policy(policy_id), json.dumps(record))
    path = f"/v1/admin/policies/{policy_id}"
    assert tenant.http.patch(path, json={"name": "q"}).json()["name"] == "q"
    assert error_of(operator.tenant().http.patch(path, json={"name": "r"})) == (404, "NOT_FOUND")


def test_a_row_of_this_servers_own_is_no_other_funding(operator: Operator) -> None:
    """Not of whoever asks under the name that the reference gives to such a row, nor of the same
    bulk action once its answer is forgotten."""
    tenant, key = funded(operator, 500), new_key()
    assert len(act(operator, tenant, 100, key).json()["succeeded"]) == 1
    row = f"{key}:tenant:{tenant.name}:{UNIT}"
    answer = operator.fund(tenant, "CREDIT", 100, idempotency_key=row)
    assert answer.json()["new_allocated"]["amount"] == 700
    names = operator.keys.tenant(tenant.name)
    operator.redis.delete(names.bulk_action("bulkActionBudgets", key))
    assert len(act(operator, tenant, 100, key).json()["succeeded"]) == 1
    assert tenant.amounts()["allocated"] == 800
