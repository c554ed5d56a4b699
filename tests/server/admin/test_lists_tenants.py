"""listTenants: shown, filtered, sorted."""

from __future__ import annotations

import pytest
from support.adminlists import TENANTS, Family, operators, refused, unique
from support.operator import Operator
from support.server import CyclesServer
from support.tenants import error_of


@pytest.fixture
def family(operator: Operator) -> Family:
    return Family(operator)


def test_a_tenant_is_shown_as_it_is_alone(operator: Operator, family: Family) -> None:
    tenant = operator.tenant(parent_tenant_id=family.parent, metadata={"a": "b"})
    (row,) = family.page()["tenants"]
    assert row == operator.http.get(f"{TENANTS}/{tenant.name}").json()


def test_no_parameters_give_a_page_of_fifty(operator: Operator, family: Family) -> None:
    for _ in range(51):
        family.child()
    page = operators(operator).page(TENANTS)
    assert len(page["tenants"]) == 50
    assert page["has_more"] is True
    assert len(family.page(limit=100)["tenants"]) == 51


def test_their_order_without_a_sort_is_by_id(family: Family) -> None:
    names = sorted(family.child().name for _ in range(5))
    assert family.ids(limit=2) == names


@pytest.mark.parametrize("limit", ["0", "-5", "101", "1000", "abc", "1.5", ""])
def test_a_limit_that_is_none(family: Family, limit: str) -> None:
    status, code, message = family.refused(limit=limit)
    assert (status, code) == (400, "INVALID_REQUEST")
    assert "limit" in message


def test_by_status(family: Family) -> None:
    by = {status: family.child(status=status).name for status in ("ACTIVE", "SUSPENDED", "CLOSED")}
    for status, name in by.items():
        assert family.ids(status=status) == [name]
    assert family.ids(status="") == family.ids(status="  ") == sorted(by.values())
    for odd in ("active", "GONE"):
        assert family.refused(status=odd)[:2] == (400, "INVALID_REQUEST")


def test_by_parent_exactly(operator: Operator, family: Family) -> None:
    family.child()
    reader = operators(operator)
    for none in (family.parent.upper(), family.parent[:-1], ""):
        assert reader.page(TENANTS, parent_tenant_id=none)["tenants"] == []


def test_a_search_looks_into_ids_and_names_in_any_case(family: Family) -> None:
    token = unique()
    by_id = family.child(f"a-{token}").name
    by_name = family.child(name=f"The {token.upper()} Group").name
    closed = family.child(name=token, status="CLOSED").name
    family.child()
    assert set(family.ids(search=token.upper())) == {by_id, by_name, closed}
    assert family.ids(search=f"  {token} ", status="CLOSED") == [closed]
    assert family.ids(search=f"{token}!") == []


def test_a_blank_search_is_none(family: Family) -> None:
    name = family.child().name
    assert family.ids(search="") == family.ids(search="   ") == [name]


def test_how_long_a_search_may_be(family: Family) -> None:
    name = family.child(name="n" * 128).name
    assert family.ids(search="n" * 128) == [name]
    assert family.refused(search="n" * 129)[:2] == (400, "INVALID_REQUEST")


def test_parameters_of_extensions_are_ignored(family: Family) -> None:
    name = family.child().name
    assert family.ids(observe_mode="anything", foo="bar") == [name]


def test_each_sort_key(family: Family) -> None:
    rows = {
        "a-1": {"name": "b", "status": "ACTIVE", "created_at": "2026-01-01T00:00:00.123456789Z"},
        "a-2": {"name": "Z", "status": "SUSPENDED", "created_at": "2026-01-01T00:00:00.123Z"},
        "a-3": {"name": "a", "status": "CLOSED", "created_at": "2026-01-01T01:00:00.12+01:00"},
        "a-4": {"name": "a", "status": "ACTIVE", "created_at": "2027-01-01T00:00:00Z"},
    }
    token = unique()
    for short, fields in rows.items():
        family.child(f"{token}-{short}", **fields)
    ascending = {
        "tenant_id": ["a-1", "a-2", "a-3", "a-4"],
        "name": ["a-2", "a-3", "a-4", "a-1"],  # by code point, capitals first
        "status": ["a-1", "a-4", "a-3", "a-2"],
        "created_at": ["a-3", "a-2", "a-1", "a-4"],
    }
    for by, expected in ascending.items():
        for limit in (1, 3, 100):
            up = family.ids(sort_by=by, sort_dir="asc", limit=limit)
            assert up == [f"{token}-{short}" for short in expected]
            assert family.ids(sort_by=by, limit=limit) == up[::-1]
    assert family.ids(sort_dir="asc") == family.ids(sort_by="created_at", sort_dir="asc")


def test_what_has_no_value_comes_last(family: Family) -> None:
    family.child("zz-" + unique(), created_at="some day")
    family.child("aa-" + unique())
    rising = [name[:2] for name in family.ids(sort_by="created_at", sort_dir="asc", limit=1)]
    assert rising == ["aa", "zz"]
    assert [name[:2] for name in family.ids(sort_by="created_at", limit=1)] == ["zz", "aa"]


@pytest.mark.parametrize(
    "params", [{"sort_by": "bogus"}, {"sort_dir": "up"}, {"sort_dir": ""}, {"sort_dir": "ASC"}]
)
def test_an_order_that_is_none(family: Family, params: dict[str, str]) -> None:
    assert family.refused(**params)[:2] == (400, "INVALID_REQUEST")


def test_a_blank_sort_key_is_none(family: Family) -> None:
    names = sorted(family.child().name for _ in range(3))
    assert family.ids(sort_by="") == names


@pytest.mark.parametrize("record", ["{", "[]", '{"tenant_id":"x"}', '{"status":"NEW"}'])
def test_a_record_that_cannot_be_read_is_logged_and_left_out(
    operator: Operator, admin: CyclesServer, family: Family, record: str
) -> None:
    good, bad = family.child(), family.child()
    operator.redis.set(bad.names.record, record)
    assert family.ids(limit=100) == [good.name]
    lines = [line for line in admin.log.read_text().splitlines() if bad.names.record in line]
    assert len(lines) == 1
    assert "left out" in lines[0]
    bad.record()


def test_the_operator_alone(operator: Operator) -> None:
    tenant = operator.tenant()
    assert error_of(tenant.http.get(TENANTS)) == (401, "UNAUTHORIZED")
    assert refused(operators(operator), TENANTS, cursor="x")[:2] == (400, "INVALID_REQUEST")
