"""listApiKeys: shown without secrets, filtered, sorted."""

from __future__ import annotations

import pytest
from support.adminlists import KEYS, ids, operators, put_key, refused, unique
from support.operator import Operator
from support.reading import Reader
from support.server import CyclesServer
from support.tenants import Tenant, error_of


class Owned(Tenant):
    """A tenant whose own key does not stand in the lists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.redis.srem(self.names.api_keys(), self.key_id)


@pytest.fixture
def tenant(operator: Operator) -> Tenant:
    owned = Owned(operator.redis, operator.url, operator.keys)
    owned.record()
    return owned


@pytest.fixture
def reader(operator: Operator) -> Reader:
    return operators(operator)


def test_a_key_is_shown_without_its_secret(tenant: Tenant, reader: Reader) -> None:
    told = {
        "name": "Bot",
        "permissions": ["budgets:read"],
        "scope_filter": ["agent:a"],
        "metadata": {"n": 1},
        "last_used_at": "2026-01-02T00:00:00Z",
    }
    key_id = put_key(tenant, **told)
    (row,) = reader.page(KEYS, tenant_id=tenant.name)["keys"]
    assert row == {
        "key_id": key_id,
        "tenant_id": tenant.name,
        "key_prefix": "cyc_live_Abcde",
        "status": "ACTIVE",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2999-01-01T00:00:00Z",
        **told,
    }


def test_all_tenants(operator: Operator, reader: Reader) -> None:
    token = unique()
    made = []
    for letter in "ba":
        one = Owned(operator.redis, operator.url, operator.keys, f"{letter}-{token}")
        one.record()
        made += [(one.name, put_key(one, name=token)) for _ in range(3)]
    for extra in ({}, {"tenant_id": " "}, {"limit": 1}, {"limit": 4}):
        rows = reader.rows(KEYS, "keys", search=token, **extra)
        assert [(row["tenant_id"], row["key_id"]) for row in rows] == sorted(made)


def test_a_tenant_that_is_none(reader: Reader) -> None:
    assert reader.page(KEYS, tenant_id=f"nobody-{unique()}") == {"keys": [], "has_more": False}


def test_by_status_as_it_is_now(tenant: Tenant, reader: Reader) -> None:
    active = put_key(tenant)
    revoked = put_key(tenant, status="REVOKED", revoked_at="2026-01-02T00:00:00Z")
    lapsed = put_key(tenant, expires_at="2026-01-02T00:00:00.123456789Z")

    def listed(**params: str) -> list[str]:
        return ids(reader, KEYS, tenant_id=tenant.name, **params)

    assert listed(status="ACTIVE") == [active]
    assert listed(status="REVOKED") == [revoked]
    assert listed(status="EXPIRED") == [lapsed]
    assert set(listed(status="")) == {active, revoked, lapsed}
    (row,) = reader.page(KEYS, tenant_id=tenant.name, status="EXPIRED")["keys"]
    assert row["status"] == "EXPIRED"
    for odd in ("foo", "active"):
        asked = {"tenant_id": tenant.name, "status": odd}
        assert refused(reader, KEYS, **asked)[:2] == (400, "INVALID_REQUEST")


def test_a_search_looks_into_ids_and_names(tenant: Tenant, reader: Reader) -> None:
    token = unique()
    found = {put_key(tenant, f"key_{token}"), put_key(tenant, name=f"My {token.upper()}")}
    put_key(tenant, description=token)
    assert set(ids(reader, KEYS, search=f" {token.upper()}")) == found
    assert len(ids(reader, KEYS, tenant_id=tenant.name, search="")) == 3
    assert refused(reader, KEYS, search="x" * 129)[:2] == (400, "INVALID_REQUEST")


def test_each_sort_key(operator: Operator, reader: Reader) -> None:
    token = unique()
    rows = [
        ("b", {"name": f"b{token}", "created_at": "2026-01-01T00:00:00.2Z"}),
        ("a", {"name": f"C{token}", "created_at": "2026-01-01T00:00:00.123Z"}),
        ("a", {"created_at": "2026-01-01T00:00:00.123456Z", "status": "REVOKED"}),
        ("b", {"name": f"a{token}", "expires_at": None, "created_at": "2025-01-01T00:00:00Z"}),
        ("b", {"name": f"a{token}", "expires_at": "2020-01-01T00:00:00Z"}),
    ]
    tenants: dict[str, Tenant] = {}
    for number, (short, fields) in enumerate(rows):
        if short not in tenants:
            tenants[short] = Owned(operator.redis, operator.url, operator.keys, f"{short}-{token}")
            tenants[short].record()
        put_key(tenants[short], f"{number}-{token}", **fields)
    ascending = {
        "key_id": [0, 1, 2, 3, 4],
        "name": [1, 3, 4, 0, 2],
        "tenant_id": [1, 2, 0, 3, 4],
        "status": [0, 1, 3, 4, 2],
        "created_at": [3, 4, 1, 2, 0],
        "expires_at": [4, 0, 1, 2, 3],
    }
    for by, expected in ascending.items():
        for limit in (1, 2, 100):
            asked = {"search": token, "sort_by": by, "limit": limit}
            up = ids(reader, KEYS, sort_dir="asc", **asked)
            assert up == [f"{number}-{token}" for number in expected], by
            assert ids(reader, KEYS, **asked) == up[::-1]
    asked = {"search": token, "sort_dir": "desc"}
    assert ids(reader, KEYS, **asked) == ids(reader, KEYS, sort_by="created_at", **asked)
    assert ids(reader, KEYS, search=token, sort_by="") == ids(reader, KEYS, search=token)


@pytest.mark.parametrize("by", ["last_used_at", "bogus"])
def test_a_sort_key_that_is_none(reader: Reader, by: str) -> None:
    assert refused(reader, KEYS, sort_by=by)[:2] == (400, "INVALID_REQUEST")


def test_a_limit_has_no_bounds_and_is_held_within_some(tenant: Tenant, reader: Reader) -> None:
    for _ in range(101):
        put_key(tenant)
    for limit, rows in ((0, 1), (-1, 1), (1000, 100)):
        assert len(reader.page(KEYS, tenant_id=tenant.name, limit=limit)["keys"]) == rows
    assert len(reader.page(KEYS, tenant_id=tenant.name)["keys"]) == 50


def test_a_record_that_cannot_be_read_is_logged_and_left_out(
    tenant: Tenant, reader: Reader, admin: CyclesServer
) -> None:
    good = put_key(tenant)
    bad = [put_key(tenant) for _ in range(3)]
    records = [tenant.names.api_key(key_id) for key_id in bad]
    tenant.redis.set(records[0], "{")
    put_key(tenant, bad[1], status="NEW")
    tenant.redis.delete(records[2])
    tenant.redis.hset(records[2], "a", "b")
    stranger = put_key(tenant, tenant_id="another")
    assert ids(reader, KEYS, tenant_id=tenant.name) == [good]
    log = admin.log.read_text()
    lines = log.splitlines()
    assert [sum(record in line for line in lines) for record in records] == [1, 1, 1]
    assert stranger not in log


def test_the_operator_alone(tenant: Tenant) -> None:
    assert error_of(tenant.http.get(KEYS)) == (401, "UNAUTHORIZED")
