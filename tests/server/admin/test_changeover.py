"""A change-over: the reference and this server on one store, one retried on the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.operator import Operator
from support.redis import RedisServer
from support.server import CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def changing(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    log = tmp_path_factory.mktemp("changing") / "log"
    settings = {"CYCLES_REFERENCE_REPLAYS": "true"}
    server = CyclesServer(store.url, Path(log), arguments=("admin",), settings=settings)
    operator = Operator(store.client, server.url)
    yield operator
    operator.http.close()
    server.stop()


def hash_of(body: dict[str, Any]) -> str:
    """How the reference tells two requests apart: by what it writes of them, absent ones null."""
    members = ("operation", "amount", "spent", "reason", "idempotency_key", "metadata")
    written = {name: body.get(name) for name in members}
    text = json.dumps(written, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def names_of(key: str) -> tuple[str, str]:
    return f"idempotency:fund:v2:{key}", f"idempotency:fund:v2:{key}:hash"


def funded_by_the_reference(operator: Operator, tenant: Tenant, key: str, amount: int) -> None:
    """A CREDIT on the tenant's own budget, as the reference leaves it."""
    record, digest = names_of(key)
    budget = tenant.names.budget(f"tenant:{tenant.name}", UNIT)
    before = int(operator.redis.hget(budget, "allocated"))
    after = before + amount
    operator.redis.hset(
        budget,
        mapping={"allocated": after, "remaining": after, "updated_at": "1790000000000"},
    )
    told = f"{before}|{after}|{before}|{after}|0|0|false|0|0"
    operator.redis.set(record, told, px=DAY_MS)
    body = {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": amount}}
    operator.redis.set(digest, hash_of({**body, "idempotency_key": key}), px=DAY_MS)


def test_the_references_own_hash() -> None:
    # A request and its hash as they were seen in a store that the reference had written.
    body = {
        "operation": "CREDIT",
        "amount": {"unit": "USD_MICROCENTS", "amount": 7},
        "idempotency_key": "fund1",
    }
    assert hash_of(body) == "139e23bcfe693e7390b3aa7385d8b296c9f1eff3008eb2475d0866bb1ca4bc15"


def test_what_was_done_there_is_not_done_again_here(changing: Operator) -> None:
    tenant, key = changing.tenant(), new_key()
    changing.budget(tenant)
    funded_by_the_reference(changing, tenant, key, 7)
    again = changing.fund(tenant, "CREDIT", 7, idempotency_key=key)
    assert again.status_code == 200
    body = again.json()
    assert body["previous_allocated"]["amount"] == 1000
    assert body["new_allocated"]["amount"] == body["new_remaining"]["amount"] == 1007
    assert tenant.amounts()["allocated"] == 1007
    other = changing.fund(tenant, "CREDIT", 8, idempotency_key=key)
    assert error_of(other) == (409, "IDEMPOTENCY_MISMATCH")
    assert tenant.amounts()["allocated"] == 1007


def test_the_same_key_on_another_ledger_is_never_a_false_success(changing: Operator) -> None:
    tenant, other, key = changing.tenant(), changing.tenant(), new_key()
    changing.budget(tenant)
    changing.budget(other)
    funded_by_the_reference(changing, tenant, key, 7)
    refused = changing.fund(other, "CREDIT", 7, idempotency_key=key)
    assert error_of(refused) == (409, "IDEMPOTENCY_MISMATCH")
    assert other.amounts()["allocated"] == 1000
    assert changing.fund(other, "CREDIT", 7, idempotency_key=new_key()).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"reason": "größer\n"},
        {"metadata": {"a": [1, 2.5, None], "b": "é"}},
        {"spent": {"unit": UNIT, "amount": 5}},
    ],
)
def test_what_is_done_here_is_told_there(changing: Operator, more: dict[str, Any]) -> None:
    tenant, key = changing.tenant(), new_key()
    changing.budget(tenant, overdraft_limit={"unit": UNIT, "amount": 5})
    operation = "RESET_SPENT" if "spent" in more else "CREDIT"
    done = changing.fund(tenant, operation, 2000, idempotency_key=key, **more)
    assert done.status_code == 200
    record, digest = names_of(key)
    amounts = tenant.amounts()
    told = changing.redis.get(record).decode().split("|")
    assert told == [
        *("1000", str(amounts["allocated"])),
        *("1000", str(amounts["remaining"])),
        *("0", "0", "false"),
        *("0", str(amounts["spent"])),
    ]
    body = {"operation": operation, "amount": {"unit": UNIT, "amount": 2000}, **more}
    assert changing.redis.get(digest).decode() == hash_of({**body, "idempotency_key": key})
    assert 0 < changing.redis.pttl(record) <= DAY_MS
    assert 0 < changing.redis.pttl(digest) <= DAY_MS
    # A retry here is answered from our own record, whatever has happened since.
    changing.fund(tenant, "CREDIT", 1)
    again = changing.fund(tenant, operation, 2000, idempotency_key=key, **more)
    assert again.content == done.content


def test_without_the_setting_the_references_keys_are_its_own(operator: Operator) -> None:
    tenant, key = operator.tenant(), new_key()
    operator.budget(tenant)
    assert operator.fund(tenant, "CREDIT", 7, idempotency_key=key).status_code == 200
    assert not any(operator.redis.exists(name) for name in names_of(key))


def test_a_policy_that_the_reference_rewrote_is_still_its_tenants(changing: Operator) -> None:
    tenant = changing.tenant()
    body = {"tenant_id": tenant.name, "name": "p", "scope_pattern": f"tenant:{tenant.name}/*"}
    policy_id = changing.http.post("/v1/admin/policies", json=body).json()["policy_id"]
    record = json.loads(changing.redis.get(tenant.names.policy(policy_id)))
    del record["tenant_id"]  # a member of ours that the reference does not know, and drops
    changing.redis.set(tenant.names.policy(policy_id), json.dumps(record))
    path = f"/v1/admin/policies/{policy_id}"
    assert tenant.http.patch(path, json={"name": "q"}).json()["name"] == "q"
    assert error_of(changing.tenant().http.patch(path, json={"name": "r"})) == (404, "NOT_FOUND")
