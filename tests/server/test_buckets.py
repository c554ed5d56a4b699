"""The bucket layout on a cluster of one node: a script that touches a second slot fails there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.agents import Crew, check_books
from support.cluster import on_a_cluster
from support.metrics import metric
from support.operator import Operator
from support.running import Running
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import UNIT, Tenant, error_of, new_key
from support.wire import eventually

from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout, bucket_of

EXPIRED = "cycles_reservations_expired_total"
ADMIN = {"X-Admin-API-Key": ADMIN_KEY}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with on_a_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def tenant(cluster: Running) -> Tenant:
    return new_tenant(cluster)


def new_tenant(cluster: Running) -> Tenant:
    tenant = Tenant(cluster.redis, cluster.url, Keys(BucketLayout()))
    tenant.record()
    for tail in ("", "/workspace:prod", "/workspace:prod/agent:bot"):
        tenant.budget(f"tenant:{tenant.name}{tail}")
    return tenant


SUBJECT = {"workspace": "prod", "agent": "bot"}


def test_a_cluster_indeed(cluster: Running) -> None:
    with pytest.raises(Exception, match="slot"):
        cluster.redis.eval("#!lua\nreturn 1", 2, "a", "b")


def test_the_whole_life_of_a_reservation(tenant: Tenant) -> None:
    body = tenant.reserve_body(100, subject=tenant.subject(**SUBJECT), metadata={"a": 1})
    first = tenant.http.post("/v1/reservations", json=body)
    assert first.status_code == 200, first.text
    reservation = first.json()["reservation_id"]
    assert int(reservation[-2:], 16) == bucket_of(tenant.name)
    assert uuid.UUID(reservation).version == 4
    again = tenant.http.post("/v1/reservations", json=body)
    assert again.json()["reservation_id"] == reservation
    assert tenant.extend(reservation, 1000).status_code == 200
    assert tenant.get(reservation).json()["metadata"] == {"a": 1}
    key = new_key()
    commits = [tenant.commit(reservation, 60, idempotency_key=key) for _ in range(2)]
    assert [commit.status_code for commit in commits] == [200, 200]
    assert commits[0].text == commits[1].text
    assert error_of(tenant.release(reservation)) == (409, "RESERVATION_FINALIZED")
    released = tenant.reserved(50)
    assert tenant.release(released).status_code == 200
    for scope in tenant.redis.smembers(tenant.names.budgets):
        name, unit = tenant.names.scope_and_unit(scope.decode())
        assert tenant.amounts(name, unit)["spent"] == 60
    rows = tenant.list(status="COMMITTED", sort_by="created_at_ms").json()["reservations"]
    assert [row["reservation_id"] for row in rows] == [reservation]
    assert len(tenant.list().json()["reservations"]) == 2
    assert len(tenant.balances().json()["balances"]) == 3
    check_books(tenant)


def test_events_decisions_and_dry_runs(tenant: Tenant) -> None:
    assert tenant.event(7, subject=tenant.subject(**SUBJECT)).status_code == 201
    assert tenant.decide(1).json()["decision"] == "ALLOW"
    assert tenant.decide(10**9).json()["reason_code"] == "BUDGET_EXCEEDED"
    assert tenant.reserve(1, dry_run=True).json()["decision"] == "ALLOW"
    wrong_unit = {"estimate": {"unit": "CREDITS", "amount": 1}}
    assert error_of(tenant.reserve(1, **wrong_unit)) == (400, "UNIT_MISMATCH")
    nowhere = new_tenant_without_budget(tenant)
    assert error_of(nowhere.reserve(1)) == (404, "NOT_FOUND")
    assert nowhere.decide(1).json()["reason_code"] == "BUDGET_NOT_FOUND"
    assert tenant.amounts()["spent"] == 7


def new_tenant_without_budget(tenant: Tenant) -> Tenant:
    return Tenant(tenant.redis, tenant.url, tenant.keys)


def test_the_operator_releases_on_behalf(cluster: Running, tenant: Tenant) -> None:
    reservation = tenant.reserved(100)
    answer = tenant.http.post(
        f"/v1/reservations/{reservation}/release",
        json={"idempotency_key": new_key(), "reason": "stuck"},
        headers=ADMIN,
    )
    assert answer.status_code == 200, answer.text
    assert tenant.amounts()["reserved"] == 0
    (log_id,) = cluster.redis.zrange(tenant.names.audit_tenant_index, 0, -1)
    entry = json.loads(cluster.redis.get(tenant.names.audit_entry(log_id.decode())))
    assert entry["resource_id"] == reservation
    shown = tenant.http.get(f"/v1/reservations/{reservation}", headers=ADMIN)
    assert shown.json()["status"] == "RELEASED"
    listed = tenant.http.get("/v1/reservations", params={"tenant": tenant.name}, headers=ADMIN)
    assert len(listed.json()["reservations"]) == 1


def test_anothers_is_forbidden_and_nobodys_unknown(cluster: Running, tenant: Tenant) -> None:
    other = new_tenant(cluster)
    # Of a tenant in another bucket, by an id that tells the bucket and by one that does not.
    while bucket_of(other.name) == bucket_of(tenant.name):
        other = new_tenant(cluster)
    theirs = other.reserved(100)
    stored = cluster.redis.hgetall(other.names.reservation(theirs))
    plain = f"{theirs[:-2]}{bucket_of(tenant.name):02x}"
    cluster.redis.hset(other.names.reservation(plain), mapping=stored)
    for reservation in (theirs, plain):
        for answer in calls(tenant, reservation):
            assert error_of(answer) == (403, "FORBIDDEN"), answer.text
    for answer in calls(tenant, str(uuid.uuid4())):
        assert error_of(answer) == (404, "NOT_FOUND"), answer.text
    assert other.amounts()["reserved"] == 100
    cluster.redis.delete(other.names.reservation(plain))


def calls(tenant: Tenant, reservation: str) -> list:  # type: ignore[type-arg]
    return [
        tenant.get(reservation),
        tenant.commit(reservation, 1),
        tenant.release(reservation),
        tenant.extend(reservation, 1000),
    ]


def test_lapsed_holds_come_back_in_every_bucket(cluster: Running) -> None:
    tenants = [new_tenant(cluster) for _ in range(8)]
    held = [tenant.reserved(100, ttl_ms=1000, grace_period_ms=0) for tenant in tenants]
    eventually(lambda: not any(tenant.amounts()["reserved"] for tenant in tenants))
    for tenant, reservation in zip(tenants, held, strict=True):
        assert error_of(tenant.get(reservation)) == (410, "RESERVATION_EXPIRED")
        eventually(lambda t=tenant: metric(cluster.url, EXPIRED, tenant=t.name) == 1)


def test_first_answers_are_kept_for_the_reference(cluster: Running, tmp_path: Path) -> None:
    settings = {"CYCLES_KEY_LAYOUT": "buckets", "CYCLES_REFERENCE_REPLAYS": "true"}
    server = CyclesServer(cluster.store.url, tmp_path / "log", settings=settings)
    tenant = new_tenant(Running(server, cluster.store))
    committed, released = tenant.reserve(100, subject=tenant.subject(**SUBJECT)), tenant.reserve(50)
    first, second = (answer.json()["reservation_id"] for answer in (committed, released))
    kept = {
        "reserve": (first, committed),
        "commit": (first, tenant.commit(first, 60)),
        "release": (second, tenant.release(second)),
    }
    for operation, (reservation, answer) in kept.items():
        body = cluster.redis.get(tenant.names.first_answer(operation, reservation))
        assert json.loads(body) == answer.json()
    event = tenant.event(7).json()["event_id"]
    assert cluster.redis.hexists(tenant.names.event(event), "event_response_json")
    server.stop()


def test_agents_at_work(cluster: Running, tenant: Tenant) -> None:
    crew = Crew(cluster.server.port, tenant)

    async def faults() -> None:
        for _ in range(3):
            cluster.redis.script_flush()
            await crew.progress(3)

    crew.run_through(faults)
    assert not crew.failures
    crew.check()


# -- the admin plane -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operator(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    server = CyclesServer(
        cluster.store.url,
        tmp_path_factory.mktemp("admin") / "log",
        arguments=("admin",),
        settings={"CYCLES_KEY_LAYOUT": "buckets", "CYCLES_REFERENCE_REPLAYS": "true"},
    )
    operator = Operator(cluster.redis, server.url, Keys(BucketLayout()))
    yield operator
    operator.http.close()
    server.stop()


def test_the_whole_life_of_a_tenant(cluster: Running, operator: Operator) -> None:
    tenant = operator.tenant()
    made = {"tenant_id": tenant.name, "name": tenant.name}
    assert operator.http.post("/v1/admin/tenants", json=made).status_code == 200
    operator.budget(tenant, below="/agent:bot")
    key = new_key()
    for _ in range(2):
        funded = operator.fund(tenant, "CREDIT", 5, below="/agent:bot", idempotency_key=key)
        assert funded.status_code == 200, funded.text
    secret = operator.http.post(
        "/v1/admin/api-keys", json={"tenant_id": tenant.name, "name": "k"}
    ).json()["key_secret"]
    policy = {"tenant_id": tenant.name, "name": "p", "scope_pattern": f"tenant:{tenant.name}/*"}
    made_policy = operator.http.post("/v1/admin/policies", json=policy)
    assert made_policy.status_code == 201, made_policy.text
    path = f"/v1/admin/policies/{made_policy.json()['policy_id']}"
    assert operator.http.patch(path, json={"priority": 3}).json()["priority"] == 3
    body = tenant.reserve_body(10, subject=tenant.subject(agent="bot"))
    headers = {"X-Cycles-API-Key": secret}
    held = httpx.post(f"{cluster.url}/v1/reservations", json=body, headers=headers)
    assert held.status_code == 200, held.text
    bulk = {"action": "CREDIT", "amount": {"unit": UNIT, "amount": 1}, "idempotency_key": key}
    done = operator.http.post(
        "/v1/admin/budgets/bulk-action", json={**bulk, "filter": {"tenant_id": tenant.name}}
    )
    assert len(done.json()["succeeded"]) == 1, done.text
    for kind in ("tenants", "budgets", "api-keys", "policies", "audit/logs"):
        listed = operator.http.get(f"/v1/admin/{kind}", params={"tenant_id": tenant.name})
        assert listed.status_code == 200, listed.text
    assert operator.http.get("/v1/admin/overview").json()["tenant_counts"]["total"] >= 1
    many = {"action": "CLOSE", "filter": {"search": tenant.name}, "idempotency_key": key}
    closed = operator.http.post("/v1/admin/tenants/bulk-action", json=many)
    assert closed.json()["succeeded"] == [{"id": tenant.name}], closed.text
    stored = tenant.stored_budget(f"tenant:{tenant.name}/agent:bot")
    assert (stored["status"], stored["remaining"], stored["reserved"]) == ("CLOSED", "1006", "0")
    told = {entry["operation"] for entry in operator.audit(tenant.name)}
    assert {"reservation.released_via_tenant_cascade", "bulkActionBudgets"} < told


def test_policies(cluster: Running, tenant: Tenant, tmp_path: Path) -> None:
    layout = {"CYCLES_KEY_LAYOUT": "buckets"}
    admin = CyclesServer(cluster.store.url, tmp_path / "log", arguments=("admin",), settings=layout)
    pattern = f"tenant:{tenant.name}/workspace:prod/*"
    body = {"tenant_id": tenant.name, "name": "n", "scope_pattern": pattern}
    path = f"{admin.url}/v1/admin/policies"
    policy = httpx.post(path, json=body, headers=ADMIN, timeout=30).json()
    for priority, policy_id in enumerate((policy["policy_id"], "pol_of-another-maker")):
        record = {**policy, "status": "DISABLED"}
        tenant.redis.set(tenant.names.policy(policy_id), json.dumps(record))
        tenant.redis.sadd(tenant.names.policies, policy_id)
        caps = {"max_tokens": priority}
        changes = {"caps": caps, "status": "ACTIVE", "priority": priority}
        changed = httpx.patch(f"{path}/{policy_id}", json=changes, headers=ADMIN, timeout=30)
        assert changed.status_code == 200, changed.text
        told = tenant.reserve(subject=tenant.subject(**SUBJECT)).json()
        assert (told["decision"], told["caps"]) == ("ALLOW_WITH_CAPS", caps)
    admin.stop()
