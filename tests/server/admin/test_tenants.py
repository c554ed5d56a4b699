"""Tenants: made once, changed, and every change told of."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from support.crowd import at_once
from support.operator import Operator
from support.tenants import error_of

PATH = "/v1/admin/tenants"


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def test_a_new_one_has_the_defaults_and_is_told_of(operator: Operator) -> None:
    name = new_id()
    made = operator.http.post(PATH, json={"tenant_id": name, "name": "Acme"})
    assert made.status_code == 201
    body = made.json()
    created_at = body.pop("created_at")
    assert body == {
        "tenant_id": name,
        "name": "Acme",
        "status": "ACTIVE",
        "default_commit_overage_policy": "ALLOW_IF_AVAILABLE",
        "default_reservation_ttl_ms": 60_000,
        "max_reservation_ttl_ms": 3_600_000,
        "max_reservation_extensions": 10,
    }
    assert operator.http.get(f"{PATH}/{name}").json() == {**body, "created_at": created_at}
    (entry,) = operator.audit(name)
    told = {key: entry[key] for key in ("operation", "resource_type", "resource_id", "status")}
    assert told == {
        "operation": "createTenant",
        "resource_type": "tenant",
        "resource_id": name,
        "status": 201,
    }
    assert entry["request_id"] == made.headers["x-request-id"]
    assert entry["trace_id"] == made.headers["x-cycles-trace-id"]
    assert "key_id" not in entry


def test_again_under_its_name_is_what_is_stored(operator: Operator) -> None:
    name = new_id()
    first = operator.http.post(PATH, json={"tenant_id": name, "name": "Acme"})
    other = {"tenant_id": name, "name": "Acme", "max_reservation_extensions": 3}
    again = operator.http.post(PATH, json=other)
    assert (again.status_code, again.json()) == (200, first.json())
    renamed = operator.http.post(PATH, json={"tenant_id": name, "name": "Other"})
    assert error_of(renamed) == (409, "DUPLICATE_RESOURCE")
    assert [entry["operation"] for entry in operator.audit(name)] == ["createTenant"]


def test_ten_at_once_make_one(operator: Operator) -> None:
    name = new_id()
    create = partial(operator.http.post, PATH, json={"tenant_id": name, "name": "Acme"})
    answers = at_once([create] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len(operator.audit(name)) == 1


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"tenant_id": "ab"}, "tenant_id"),
        ({"tenant_id": "a" * 65}, "tenant_id"),
        ({"tenant_id": "Acme"}, "tenant_id"),
        ({"tenant_id": "acme\n"}, "tenant_id"),
        ({"tenant_id": "a_b"}, "tenant_id"),
        ({"name": None}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "n" * 257}, "name"),
        ({"name": 123}, "name"),
        ({"status": "ACTIVE"}, "status"),
        ({"default_reservation_ttl_ms": 999}, "default_reservation_ttl_ms"),
        ({"default_reservation_ttl_ms": "5000"}, "default_reservation_ttl_ms"),
        ({"max_reservation_extensions": -1}, "max_reservation_extensions"),
        ({"default_commit_overage_policy": 1}, "default_commit_overage_policy"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(33)}}, "metadata"),
    ],
)
def test_what_is_not_allowed_makes_none(
    operator: Operator, members: dict[str, object], named: str
) -> None:
    body = {"tenant_id": new_id(), "name": "Acme", **members}
    refused = operator.http.post(PATH, json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert named in refused.json()["message"]
    assert not operator.redis.sismember(operator.keys.tenants, str(body["tenant_id"]))


def test_update_changes_what_was_sent_alone(operator: Operator) -> None:
    tenant = operator.tenant(metadata={"a": "1"})
    before = operator.http.get(f"{PATH}/{tenant.name}").json()
    changed = operator.http.patch(f"{PATH}/{tenant.name}", json={"name": "New", "metadata": {}})
    after = changed.json()
    assert after.pop("updated_at")
    assert after == {**before, "name": "New", "metadata": {}}
    assert operator.audit(tenant.name)[-1]["metadata"] == {"name": "New"}


@pytest.mark.parametrize("value", [1, None, {}, ["a"], True])
def test_values_of_metadata_are_texts(operator: Operator, value: object) -> None:
    tenant = operator.tenant(metadata={"a": "1"})
    body = {"name": "New", "metadata": {"a": "2", "b": value}}
    refused = operator.http.patch(f"{PATH}/{tenant.name}", json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert "metadata" in refused.json()["message"]
    assert "'b'" in refused.json()["message"]
    kept = operator.http.get(f"{PATH}/{tenant.name}").json()
    assert (kept["metadata"], "updated_at" in kept) == ({"a": "1"}, False)


def test_a_value_of_metadata_that_another_server_wrote(operator: Operator) -> None:
    tenant = operator.tenant()
    stored = {"name": tenant.name, "created_at": "2026-01-01T00:00:00Z"}
    tenant.record(**stored, metadata={"a": "1", "b": 2, "c": {}})
    assert operator.http.get(f"{PATH}/{tenant.name}").json()["metadata"] == {"a": "1"}
    listed = operator.http.get(PATH, params={"search": tenant.name}).json()["tenants"]
    assert [one["metadata"] for one in listed] == [{"a": "1"}]


def test_members_that_others_wrote_survive(operator: Operator) -> None:
    tenant = operator.tenant()
    tenant.record(created_at="2026-01-01T00:00:00.123456789Z", ours_not=[1e21, {}, []])
    operator.http.patch(f"{PATH}/{tenant.name}", json={"name": "New"})
    stored = operator.redis.get(tenant.names.record).decode()
    assert '"ours_not":[1e+21,{},[]]' in stored
    assert '"created_at":"2026-01-01T00:00:00.123456789Z"' in stored


def test_a_status_that_it_has_is_no_transition(operator: Operator) -> None:
    tenant = operator.tenant()
    path = f"{PATH}/{tenant.name}"
    first = operator.http.patch(path, json={"status": "SUSPENDED"}).json()
    assert first["suspended_at"] == first["updated_at"]
    again = operator.http.patch(path, json={"status": "SUSPENDED"}).json()
    assert again["suspended_at"] == first["suspended_at"]
    told = [entry["metadata"] for entry in operator.audit(tenant.name) if "metadata" in entry]
    assert [facts["new_status"] for facts in told if "new_status" in facts] == ["SUSPENDED"]
    back = operator.http.patch(path, json={"status": "ACTIVE"}).json()
    assert back["status"] == "ACTIVE"


def test_writers_at_once_lose_nothing(operator: Operator) -> None:
    tenant = operator.tenant()
    path = f"{PATH}/{tenant.name}"
    changes: list[dict[str, object]] = [
        {"name": "New"},
        {"max_reservation_extensions": 3},
        {"default_reservation_ttl_ms": 2000},
        {"max_reservation_ttl_ms": 4000},
        {"metadata": {"a": "b"}},
        {"default_commit_overage_policy": "REJECT"},
    ]
    answers = at_once([partial(operator.http.patch, path, json=body) for body in changes])
    assert {answer.status_code for answer in answers} == {200}
    stands = operator.http.get(path).json()
    for body in changes:
        assert body.items() <= stands.items()


def test_one_that_is_not_there(operator: Operator) -> None:
    assert error_of(operator.http.get(f"{PATH}/nobody-here")) == (404, "TENANT_NOT_FOUND")
    body = {"status": "SUSPENDED"}
    assert error_of(operator.http.patch(f"{PATH}/nobody-here", json=body)) == (
        404,
        "TENANT_NOT_FOUND",
    )


@pytest.mark.parametrize(
    "body", [{"tenant_id": "x-y-z"}, {"parent_tenant_id": "x"}, {"status": 2}, {"name": ""}]
)
def test_what_cannot_be_updated(operator: Operator, body: dict[str, object]) -> None:
    tenant = operator.tenant()
    before = operator.redis.get(tenant.names.record)
    refused = operator.http.patch(f"{PATH}/{tenant.name}", json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert operator.redis.get(tenant.names.record) == before


def test_a_record_that_cannot_be_read_is_left_alone(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.redis.set(tenant.names.record, "{")
    for answer in (
        operator.http.get(f"{PATH}/{tenant.name}"),
        operator.http.patch(f"{PATH}/{tenant.name}", json={"name": "New"}),
    ):
        assert error_of(answer) == (500, "INTERNAL_ERROR")
    assert operator.redis.get(tenant.names.record) == b"{"
    tenant.record()
