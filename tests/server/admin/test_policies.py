"""Policies: made under a name of their own, changed, and every change told of."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import httpx
import pytest
from support.crowd import at_once
from support.operator import Operator
from support.tenants import Tenant, error_of

PATH = "/v1/admin/policies"
PERMISSIONS = ["policies:write"]
CAPS: dict[str, Any] = {"max_tokens": 100, "tool_allowlist": [], "tool_denylist": ["web.search"]}
LEASES = {"default_ttl_ms": 1_000, "max_ttl_ms": 86_400_000, "max_extensions": 0}


def writer(tenant: Tenant, **fields: Any) -> httpx.Client:
    """A client with a further key of the tenant."""
    secret = tenant.new_key(**{"permissions": PERMISSIONS, **fields})
    headers = {"X-Cycles-API-Key": secret}
    return httpx.Client(base_url=tenant.url, headers=headers, timeout=30)


def create(operator: Operator, tenant: Tenant, **members: Any) -> httpx.Response:
    body = {
        "tenant_id": tenant.name,
        "name": "Evenings",
        "scope_pattern": f"tenant:{tenant.name}/*",
        **members,
    }
    return operator.http.post(PATH, json=body)


def created(operator: Operator, tenant: Tenant, **members: Any) -> dict[str, Any]:
    made = create(operator, tenant, **members)
    assert made.status_code == 201, made.text
    policy: dict[str, Any] = made.json()
    return policy


def update(operator: Operator, policy: dict[str, Any], body: Any) -> httpx.Response:
    return operator.http.patch(f"{PATH}/{policy['policy_id']}", json=body)


def stored(operator: Operator, tenant: Tenant, policy: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        operator.redis.get(tenant.names.policy(policy["policy_id"]))
    )
    return record


def of_the_reference(operator: Operator, tenant: Tenant, **members: Any) -> dict[str, Any]:
    """A policy as the reference's admin service writes one: nothing in it names its tenant."""
    record = {
        "policy_id": f"pol_{tenant.name[2:]}-4f4-43",
        "scope_pattern": f"tenant:{tenant.name}/app:*",
        "status": "ACTIVE",
        "created_at": "2026-01-02T03:04:05.805550324Z",
        "name": "p1",
        "priority": 0,
        "caps": {"max_tokens": 100, "tool_allowlist": []},
        "reservation_ttl_override": {
            "default_ttl_ms": 5_000,
            "max_ttl_ms": None,
            "max_extensions": None,
        },
        **members,
    }
    operator.redis.set(tenant.names.policy(record["policy_id"]), json.dumps(record))
    operator.redis.sadd(tenant.names.policies, record["policy_id"])
    return record


# -- create ----------------------------------------------------------------------------------------


def test_a_new_one_is_in_force_and_told_of(operator: Operator) -> None:
    tenant = operator.tenant()
    with writer(tenant) as client:
        made = client.post(
            PATH, json={"name": "Evenings", "scope_pattern": f"tenant:{tenant.name}/*"}
        )
    assert made.status_code == 201, made.text
    policy = made.json()
    assert policy.pop("created_at")
    policy_id = policy.pop("policy_id")
    assert policy == {
        "name": "Evenings",
        "scope_pattern": f"tenant:{tenant.name}/*",
        "priority": 0,
        "status": "ACTIVE",
    }
    assert operator.redis.smembers(tenant.names.policies) == {policy_id.encode()}
    assert stored(operator, tenant, made.json()) == {**made.json(), "tenant_id": tenant.name}
    entry = operator.audit(tenant.name)[-1]
    assert entry["operation"] == "createPolicy"
    assert (entry["resource_type"], entry["resource_id"]) == ("policy", policy_id)
    assert (entry["status"], entry["key_id"]) == (201, tenant.key_id)
    assert entry["metadata"] == {
        "name": "Evenings",
        "scope_pattern": f"tenant:{tenant.name}/*",
        "actor_type": "api_key",
    }


def test_all_that_it_can_say_is_kept(operator: Operator) -> None:
    tenant = operator.tenant()
    said = {
        "description": "d" * 1024,
        "priority": 2**31,
        "caps": CAPS,
        "commit_overage_policy": "REJECT",
        "reservation_ttl_override": LEASES,
        "rate_limits": {"max_reservations_per_minute": 1},
    }
    policy = created(
        operator,
        tenant,
        name="n" * 256,
        effective_from="2026-04-10T14:00:00.1234+02:00",
        effective_until="2026-04-10T12:00:00Z",
        **said,
    )
    assert said.items() <= policy.items()
    assert policy["effective_from"] == "2026-04-10T12:00:00.123Z"
    assert policy["effective_until"] == "2026-04-10T12:00:00.000Z"
    assert stored(operator, tenant, policy) == {**policy, "tenant_id": tenant.name}
    assert operator.audit(tenant.name)[-1]["metadata"]["actor_type"] == "admin_on_behalf_of"


def test_whose_it_is_says_the_key_or_the_operator(operator: Operator) -> None:
    tenant = operator.tenant()
    missing = create(operator, tenant, tenant_id=" ")
    assert error_of(missing) == (400, "INVALID_REQUEST")
    assert "tenant_id" in missing.json()["message"]
    body = {"name": "n", "scope_pattern": f"tenant:{tenant.name}", "tenant_id": tenant.name}
    with writer(tenant) as client:
        refused = client.post(PATH, json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert "tenant_id" in refused.json()["message"]
    with writer(tenant, permissions=["policies:read"]) as client:
        assert error_of(client.post(PATH, json=body)) == (403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("tenant:{}", "tenant:{}"),
        ("tenant:{}/*", "tenant:{}/*"),
        ("tenant:{}/agent:*", "tenant:{}/agent:*"),
        ("tenant:{}/workspace:ENG/agent:*", "tenant:{}/workspace:eng/agent:*"),
        ("tenant:{}/workspace:ENG", "tenant:{}/workspace:eng"),
        ("agent:*", "agent:*"),
        ("*/agent:*", "*/agent:*"),
        ("*/agent:Summarizer", "*/agent:summarizer"),
    ],
)
def test_patterns_are_kept_in_canonical_form(operator: Operator, pattern: str, kept: str) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant, scope_pattern=pattern.format(tenant.name))
    assert policy["scope_pattern"] == kept.format(tenant.name)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "/*",
        "*/*",
        "tenant:*",
        "tenant:*/agent:a",
        "*/tenant:{}",
        "tenant:somebody-else",
        "tenant:{}x/*",
        "tenant:{}/",
        "tenant:{}//*",
        "tenant:{}/*/agent:a",
        "tenant:{}/agent:*/*",
        "tenant:{}/agent:a*",
        "tenant:{}/**",
        "tenant:{}/project:p",
        "tenant:{}/agent:*/toolset:*",
        "tenant:{}/agent:a/workspace:w",
        "agent:a",
        "*/project:*",
        "*/agent:a/toolset:b",
        "*/agent:ä",
        "*/agent:" + "a" * 129,
        "workspace:a/agent:*",
    ],
)
def test_what_matches_no_scope_of_the_tenant(operator: Operator, pattern: str) -> None:
    tenant = operator.tenant()
    refused = create(operator, tenant, scope_pattern=pattern.format(tenant.name))
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert "scope_pattern" in refused.json()["message"]
    assert not operator.redis.exists(tenant.names.policies)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 257}, "name"),
        ({"description": "d" * 1025}, "description"),
        ({"scope_pattern": None}, "scope_pattern"),
        ({"status": "ACTIVE"}, "status"),
        ({"action_quotas": []}, "action_quotas"),
        ({"priority": -1}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"caps": {"max_tokens": -1}}, "max_tokens"),
        ({"caps": {"max_cost": 1}}, "max_cost"),
        ({"caps": {"tool_denylist": ["t" * 257]}}, "tool_denylist"),
        ({"caps": {"tool_allowlist": "x"}}, "tool_allowlist"),
        ({"caps": {"tool_allowlist": {}}}, "tool_allowlist"),
        ({"commit_overage_policy": "MAYBE"}, "commit_overage_policy"),
        ({"reservation_ttl_override": {"default_ttl_ms": 999}}, "default_ttl_ms"),
        ({"reservation_ttl_override": {"max_ttl_ms": 86_400_001}}, "max_ttl_ms"),
        ({"reservation_ttl_override": {"max_extensions": -1}}, "max_extensions"),
        ({"reservation_ttl_override": {"grace_ms": 1}}, "grace_ms"),
        ({"rate_limits": {"max_commits_per_minute": 0}}, "max_commits_per_minute"),
        ({"rate_limits": {"max_commits_per_minute": True}}, "max_commits_per_minute"),
        ({"rate_limits": {"max_reservations_per_minute": "9"}}, "max_reservations_per_minute"),
        ({"rate_limits": {"per_hour": 1}}, "per_hour"),
        ({"rate_limits": []}, "rate_limits"),
        ({"effective_from": "tomorrow"}, "effective_from"),
        ({"effective_until": "2026-02-30T00:00:00Z"}, "effective_until"),
    ],
)
def test_what_is_not_allowed_makes_none(
    operator: Operator, members: dict[str, Any], named: str
) -> None:
    tenant = operator.tenant()
    body = {"tenant_id": tenant.name, "name": "n", "scope_pattern": f"tenant:{tenant.name}"}
    given = {name: value for name, value in (body | members).items() if value is not None}
    refused = operator.http.post(PATH, json=given)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert named in refused.json()["message"]
    assert not operator.redis.exists(tenant.names.policies)


def test_names_are_unique_within_a_tenant(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    created(operator, tenant, name='Ä\n"/')
    created(operator, other, name='Ä\n"/')
    again = create(operator, tenant, name='Ä\n"/', scope_pattern="agent:*")
    assert error_of(again) == (409, "DUPLICATE_RESOURCE")
    of_the_reference(operator, tenant)
    assert error_of(create(operator, tenant, name="p1")) == (409, "DUPLICATE_RESOURCE")
    assert operator.redis.scard(tenant.names.policies) == 2
    assert [entry["operation"] for entry in operator.audit(tenant.name)].count("createPolicy") == 1


def test_ten_at_once_make_one(operator: Operator) -> None:
    tenant = operator.tenant()
    answers = at_once([lambda: create(operator, tenant)] * 10)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert operator.redis.scard(tenant.names.policies) == 1


def test_the_owner_must_be_in_force(operator: Operator) -> None:
    tenant = operator.tenant()
    unknown = create(operator, tenant, tenant_id="nobody-here", scope_pattern="agent:*")
    assert error_of(unknown) == (400, "INVALID_REQUEST")
    tenant.record(status="SUSPENDED")
    assert error_of(create(operator, tenant)) == (400, "INVALID_REQUEST")
    tenant.record(status="CLOSED")
    assert error_of(create(operator, tenant)) == (409, "TENANT_CLOSED")
    assert not operator.redis.exists(tenant.names.policies)


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("tenant:{}/workspace:eng", 201),
        ("tenant:{}/workspace:ENG/*", 201),
        ("tenant:{}/workspace:eng/agent:*", 201),
        ("tenant:{}/workspace:ops", 403),
        ("tenant:{}/workspace:*", 403),
        ("tenant:{}/*", 403),
        ("tenant:{}", 403),
        ("agent:*", 403),
        ("*/workspace:eng", 201),
    ],
)
def test_a_scope_filter_must_admit_all_that_matches(
    operator: Operator, pattern: str, status: int
) -> None:
    tenant = operator.tenant()
    text = pattern.format(tenant.name)
    policy = created(operator, tenant, name="of the operator", scope_pattern=text)
    with writer(tenant, scope_filter=["workspace:eng"]) as client:
        made = client.post(PATH, json={"name": "n", "scope_pattern": text})
        changed = client.patch(f"{PATH}/{policy['policy_id']}", json={"priority": 1})
    assert made.status_code == status
    assert changed.status_code == (200 if status == 201 else 403)


# -- update ----------------------------------------------------------------------------------------


def test_the_owner_changes_what_it_sends_alone(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant, caps=CAPS, priority=3)
    with writer(tenant) as client:
        answer = client.patch(f"{PATH}/{policy['policy_id']}", json={"name": "Nights"})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed.pop("updated_at")
    assert changed == {**policy, "name": "Nights"}
    assert stored(operator, tenant, policy) == {**answer.json(), "tenant_id": tenant.name}


def test_the_operator_changes_every_member(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant, caps=CAPS)
    body = {
        "name": "Nights",
        "description": "new",
        "priority": 7,
        "caps": {},
        "commit_overage_policy": "ALLOW_WITH_OVERDRAFT",
        "reservation_ttl_override": LEASES,
        "rate_limits": {"max_commits_per_minute": 5},
        "effective_from": "2026-04-10T12:00:00.000Z",
        "effective_until": "2036-04-10T12:00:00.000Z",
        "status": "DISABLED",
    }
    changed = update(operator, policy, body).json()
    assert changed.pop("updated_at")
    assert changed == {**policy, **body}
    entry = operator.audit(tenant.name)[-1]
    assert (entry["operation"], entry["tenant_id"]) == ("updatePolicy", tenant.name)
    assert (entry["resource_type"], entry["resource_id"]) == ("policy", policy["policy_id"])
    assert "key_id" not in entry
    assert entry["metadata"] == {
        "scope_pattern": policy["scope_pattern"],
        "name": "Nights",
        "priority": 7,
        "new_status": "DISABLED",
        "caps_updated": True,
        "commit_overage_policy": "ALLOW_WITH_OVERDRAFT",
        "actor_type": "admin_on_behalf_of",
    }


def test_nothing_sent_notes_the_time_alone(operator: Operator) -> None:
    policy = created(operator, operator.tenant())
    changed = update(operator, policy, {}).json()
    assert changed.pop("updated_at")
    assert changed == policy


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"status": "CLOSED"}, "status"),
        ({"scope_pattern": "agent:*"}, "scope_pattern"),
        ({"tenant_id": "x-y-z"}, "tenant_id"),
        ({"priority": -1}, "priority"),
        ({"name": ""}, "name"),
        ({"name": "n" * 300}, "name"),
        ({"description": "d" * 2000}, "description"),
        ({"caps": {"tool_allowlist": {}}}, "tool_allowlist"),
        ({"caps": None}, "caps"),
        ({"reservation_ttl_override": {"default_ttl_ms": 1}}, "default_ttl_ms"),
        ({"rate_limits": {"max_commits_per_minute": 0}}, "max_commits_per_minute"),
        ({"effective_until": "never"}, "effective_until"),
    ],
)
def test_what_cannot_be_updated(operator: Operator, members: dict[str, Any], named: str) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant)
    before = stored(operator, tenant, policy)
    refused = update(operator, policy, members)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert named in refused.json()["message"]
    assert stored(operator, tenant, policy) == before


def test_of_others_nothing_is_told(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    policy = created(operator, tenant)
    path = f"{PATH}/{policy['policy_id']}"
    with writer(other) as client:
        theirs = client.patch(path, json={"name": "mine"})
        nobodys = client.patch(f"{PATH}/pol_nobody", json={"name": "mine"})
    assert error_of(theirs) == error_of(nobodys) == (404, "NOT_FOUND")
    told = theirs.json()["message"].replace(policy["policy_id"], "pol_nobody")
    assert told == nobodys.json()["message"]
    with writer(other, permissions=["policies:read"]) as client:
        refused = client.patch(path, json={"name": "mine"})
    assert error_of(refused) == (403, "INSUFFICIENT_PERMISSIONS")
    unknown = {"policy_id": "pol_nobody"}
    assert error_of(update(operator, unknown, {"priority": 1})) == (404, "NOT_FOUND")
    assert stored(operator, tenant, policy)["name"] == "Evenings"


def test_a_name_that_another_has_is_not_taken(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant)
    created(operator, tenant, name="Nights")
    assert error_of(update(operator, policy, {"name": "Nights"})) == (409, "DUPLICATE_RESOURCE")
    assert update(operator, policy, {"name": "Evenings"}).status_code == 200


def test_a_closed_tenants_policies_stay_as_they_are(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant)
    tenant.record(status="SUSPENDED")
    assert update(operator, policy, {"priority": 1}).status_code == 200
    tenant.record(status="CLOSED")
    assert error_of(update(operator, policy, {"priority": 2})) == (409, "TENANT_CLOSED")
    assert stored(operator, tenant, policy)["priority"] == 1


def test_what_the_reference_wrote_is_its_tenants(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    record = of_the_reference(operator, tenant, beyond=[1e21, {}, []])
    path = f"{PATH}/{record['policy_id']}"
    with writer(other) as client:
        assert error_of(client.patch(path, json={"priority": 4})) == (404, "NOT_FOUND")
    with writer(tenant) as client:
        changed = client.patch(path, json={"priority": 4})
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert body["reservation_ttl_override"] == {"default_ttl_ms": 5_000}
    assert body["created_at"] == "2026-01-02T03:04:05.805550324Z"
    after = stored(operator, tenant, record)
    assert after.pop("updated_at") == body["updated_at"]
    assert after == {**record, "priority": 4}
    update(operator, record, {"status": "DISABLED"})
    assert [entry["tenant_id"] for entry in operator.audit(tenant.name)[-2:]] == [tenant.name] * 2


def test_what_the_reference_wrote_again_is_still_its_tenants(operator: Operator) -> None:
    tenant, other = operator.tenant(), operator.tenant()
    policy = created(operator, tenant, scope_pattern="agent:*")
    path = f"{PATH}/{policy['policy_id']}"
    with writer(other) as theirs, writer(tenant) as own:
        for client, status in ((theirs, 404), (own, 200), (operator.http, 200)):
            operator.redis.set(tenant.names.policy(policy["policy_id"]), json.dumps(policy))
            assert client.patch(path, json={"priority": 4}).status_code == status
    entries = operator.audit(tenant.name)[-2:]
    assert [entry["metadata"]["actor_type"] for entry in entries] == [
        "api_key",
        "admin_on_behalf_of",
    ]


def test_writers_at_once_lose_nothing(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant)
    changes: list[dict[str, Any]] = [
        {"name": "Nights"},
        {"description": "new"},
        {"priority": 9},
        {"caps": CAPS},
        {"rate_limits": {"max_commits_per_minute": 5}},
        {"commit_overage_policy": "REJECT"},
        {"status": "DISABLED"},
    ]
    answers = at_once([partial(update, operator, policy, body) for body in changes])
    assert {answer.status_code for answer in answers} == {200}
    stands = stored(operator, tenant, policy)
    for body in changes:
        assert body.items() <= stands.items()


def test_damage_is_left_alone(operator: Operator) -> None:
    tenant = operator.tenant()
    policy = created(operator, tenant)
    key = tenant.names.policy(policy["policy_id"])
    for damaged in ("{", '{"name":"n"}', '{"tenant_id":5}'):
        operator.redis.set(key, damaged)
        assert error_of(update(operator, policy, {"priority": 1})) == (500, "INTERNAL_ERROR")
        assert operator.redis.get(key) == damaged.encode()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_no_other_way_to_one(operator: Operator, method: str) -> None:
    answer = operator.http.request(method, f"{PATH}/pol_any")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "PATCH"
