"""The audit log, searched: filters, orders, pages, and entries of every age and origin."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from support.audit import BY_OPERATOR, PATH, T0, Log
from support.operator import Operator
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import error_of

from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout

INVALID = (400, "INVALID_REQUEST")
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def log(operator: Operator) -> Log:
    return Log(operator)


def test_newest_first_and_the_tenants_alone(operator: Operator, log: Log) -> None:
    ids = [log.put(T0 + number) for number in (1, 3, 2)]
    other = Log(operator)
    other.put(T0)
    assert log.found() == [ids[1], ids[2], ids[0]]
    assert Log(operator).found() == []


def test_what_a_call_left_is_found(operator: Operator) -> None:
    tenant = operator.tenant()
    refused = operator.http.post("/v1/admin/tenants", json={"tenant_id": tenant.name, "name": "-"})
    assert error_of(refused) == (409, "DUPLICATE_RESOURCE")
    (made,) = Log(operator, tenant.name).ask().json()["logs"]
    assert made == operator.audit(tenant.name)[0]
    query = {"request_id": refused.headers["x-request-id"]}
    (entry,) = Log(operator, BY_OPERATOR).ask(**query).json()["logs"]
    assert (entry["operation"], entry["error_code"]) == ("createTenant", "DUPLICATE_RESOURCE")
    everywhere = operator.http.get(PATH, params=query).json()["logs"]
    assert everywhere == [entry]


def test_an_operators_release_on_the_runtime_plane_is_found(
    operator: Operator, running: Running
) -> None:
    tenant = running.tenant()
    tenant.budget()
    released = tenant.http.post(
        f"/v1/reservations/{tenant.reserved(5)}/release",
        json={"idempotency_key": "k"},
        headers={"X-Cycles-API-Key": "", "X-Admin-API-Key": ADMIN_KEY},
    )
    assert released.status_code == 200
    (entry,) = Log(operator, tenant.name).ask(operation="releaseReservation").json()["logs"]
    assert entry["metadata"] == {"actor_type": "admin_on_behalf_of"}
    assert entry["request_id"] == released.headers["x-request-id"]


@pytest.mark.parametrize("tenant", ["_all", "null", "*", "_ALL", "nobody", "__none__"])
def test_whose_is_exact(operator: Operator, log: Log, tenant: str) -> None:
    """The index of all, and one where others file entries without a tenant, are nobody's."""
    log.put()
    Log(operator, "null").put(tenant_id=None)
    assert Log(operator, tenant).found() == []


def test_a_blank_filter_is_none(log: Log) -> None:
    one = log.put(resource_id="r", key_id="k", error_code="FORBIDDEN")
    blank = ("operation", "resource_type", "error_code", "error_code_exclude", "resource_id")
    blank += ("key_id", "request_id", "from", "to", "search", "cursor")
    for name in blank:
        assert log.found(**{name: ""}) == [one], name
    for name in ("operation", "resource_type", "error_code", "error_code_exclude"):
        assert log.found(**{name: ","}) == [one], name
    everybodys = log.ask(tenant_id="", resource_id="r", key_id="k").json()["logs"]
    assert one in [entry["log_id"] for entry in everybodys]


# -- filters -------------------------------------------------------------------------------------


def test_lists_of_values(log: Log) -> None:
    fund = log.put(T0 + 1, operation="fundBudget", resource_type="budget")
    create = log.put(T0 + 2, operation="createTenant", resource_type="tenant")
    bare = log.put(T0 + 3, operation="createPolicy")
    assert log.found(operation="fundBudget") == [fund]
    assert log.found(operation="fundBudget,createTenant") == [create, fund]
    assert log.found(operation=" fundBudget , ") == [fund]
    assert log.found(operation="FUNDBUDGET") == []
    assert log.found(resource_type="budget,tenant") == [create, fund]
    assert log.found(resource_type="policy") == []
    assert log.found() == [bare, create, fund]


@pytest.mark.parametrize("name", ["operation", "resource_type", "error_code", "error_code_exclude"])
def test_lists_are_bounded(log: Log, name: str) -> None:
    values = [f"v{number}" for number in range(26)]
    assert log.ask(**{name: ",".join(values[:25])}).status_code == 200
    for too_many in (values, ["v"] * 26):
        refused = log.ask(**{name: ",".join(too_many)})
        assert error_of(refused) == INVALID
        assert name in refused.json()["message"]


def test_error_codes(log: Log) -> None:
    success = log.put(T0 + 1)
    null = log.put(T0 + 2, error_code=None)
    denied = log.put(T0 + 3, error_code="FORBIDDEN", status=403)
    lost = log.put(T0 + 4, error_code="NOT_FOUND", status=404)
    assert log.found(error_code="FORBIDDEN") == [denied]
    assert log.found(error_code="FORBIDDEN,NOT_FOUND") == [lost, denied]
    assert log.found(error_code="forbidden") == []
    assert log.found(error_code="A_CODE_TO_COME") == []
    assert log.found(error_code_exclude="FORBIDDEN") == [lost, null, success]
    assert log.found(error_code_exclude="FORBIDDEN,NOT_FOUND") == [null, success]
    assert log.found(error_code="FORBIDDEN,NOT_FOUND", error_code_exclude="FORBIDDEN") == [lost]


def test_statuses(log: Log) -> None:
    made = log.put(T0 + 1, status=201)
    refused = log.put(T0 + 2, status=400)
    absent = [log.put(T0 + 3, status=...), log.put(T0 + 4, status=None)]
    odd = [log.put(T0 + 5, status="400"), log.put(T0 + 6, status=True)]
    assert log.found(status=201) == [made]
    assert log.found(status_min=201) == [refused, made]
    assert log.found(status_min=202) == [refused]
    assert log.found(status_max=400) == [refused, made]
    assert log.found(status_max=399) == [made]
    assert log.found(status_min=201, status_max=201) == [made]
    assert log.found(status=0) == []
    assert log.found() == [odd[1], odd[0], absent[1], absent[0], refused, made]


def test_exact_members(log: Log) -> None:
    row = {"key_id": "key_1", "resource_id": "res-1", "request_id": "req-1", "trace_id": TRACE}
    one = log.put(T0, **row)
    log.put(T0 + 1, **dict.fromkeys(row))
    log.put(T0 + 2)
    for name, value in row.items():
        assert log.found(**{name: value}) == [one]
        other = "f" * 32 if name == "trace_id" else value.upper()
        assert log.found(**{name: other}) == []
    assert log.found(**row) == [one]


def test_search(log: Log) -> None:
    one = log.put(resource_id="Res-ABC", error_code="BUDGET_EXCEEDED", operation="fundBudget")
    for part in ("exceeded", "EXCEEDED", "es-ab", "FUNDB", one[4:12].upper(), one):
        assert log.found(search=part) == [one], part
    log.put(key_id="needle", resource_type="needle", metadata={"needle": "needle"})
    assert log.found(search="needle") == []
    assert log.ask(search="x" * 128).status_code == 200
    assert error_of(log.ask(search="x" * 129)) == INVALID


def test_windows(log: Log) -> None:
    first, second, third = (log.put(T0 + number * 1000) for number in range(3))
    at = ["2026-05-28T20:26:40Z", "2026-05-28T20:26:41.000Z", "2026-05-28T22:26:42+02:00"]
    assert log.found(from_=at[1]) == [third, second]
    assert log.found(to=at[1]) == [second, first]
    assert log.found(from_=at[1], to=at[1]) == [second]
    assert log.found(from_=at[2]) == [third]
    assert log.found(from_=at[2], to=at[0]) == []
    assert log.found(from_=at[1], sort_by="operation") != []
    assert log.found(from_=at[2], sort_by="status") == [third]


def test_windows_finer_than_a_millisecond(log: Log) -> None:
    """Others write nanoseconds; an index has milliseconds."""
    one = log.put(T0, timestamp="2026-05-28T20:26:40.000500001Z")
    assert log.found(from_="2026-05-28T20:26:40.0005Z", to="2026-05-28T20:26:40.00051Z") == [one]
    assert log.found(from_="2026-05-28T20:26:40.000500001Z") == [one]
    assert log.found(from_="2026-05-28T20:26:40.000500002Z") == []
    assert log.found(to="2026-05-28T20:26:40.0005Z") == []
    assert log.found(to="2026-05-28T20:26:40.001Z") == [one]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"status": "abc"}, "status"),
        ({"status": 200, "status_min": 100}, "status"),
        ({"status": 200, "status_max": 599}, "status"),
        ({"status_min": 99}, "status_min"),
        ({"status_max": 600}, "status_max"),
        ({"status_min": 500, "status_max": 499}, "status_min"),
        ({"from": "bad"}, "from"),
        ({"from": "2026-11-24"}, "from"),
        ({"to": "2026-11-24T10:00:00"}, "to"),
        ({"trace_id": TRACE.upper()}, "trace_id"),
        ({"trace_id": TRACE[:-1]}, "trace_id"),
        ({"sort_by": "bogus"}, "sort_by"),
        ({"sort_dir": "up"}, "sort_dir"),
        ({"limit": "x"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
    ],
)
def test_what_is_no_query(log: Log, query: dict[str, Any], named: str) -> None:
    refused = log.ask(**query)
    assert error_of(refused) == INVALID
    assert named in refused.json()["message"]


def test_what_it_does_not_know_is_ignored(log: Log) -> None:
    one = log.put()
    assert log.found(colour="blue") == [one]


def test_limits_are_taken_as_near_as_possible(log: Log) -> None:
    ids = [log.put(T0 + number) for number in range(103)]
    for limit, rows in ((0, 1), (-5, 1), (1, 1), (100, 100), (101, 100), (10**18, 100)):
        assert len(log.ask(limit=limit).json()["logs"]) == rows
    assert len(log.ask().json()["logs"]) == 50
    assert [len(page) for page in log.pages(limit=50)] == [50, 50, 3]
    assert [one for page in log.pages(limit=7) for one in page] == ids[::-1]


# -- orders --------------------------------------------------------------------------------------


def test_by_time_in_both_directions(log: Log) -> None:
    ids = [log.put(T0 + number) for number in range(5)]
    assert log.found(sort_by="timestamp") == ids[::-1]
    assert log.found(sort_by="timestamp", sort_dir="asc") == ids
    assert log.found(sort_dir="asc") == ids
    assert log.pages(sort_dir="asc", limit=2) == [ids[:2], ids[2:4], ids[4:]]


SORTED: dict[str, list[Any]] = {
    "operation": ["a", "b", "c"],
    "resource_type": ["budget", "tenant", None],
    "key_id": ["key_1", "key_2", None],
    "status": [200, 404, None],
}


@pytest.mark.parametrize("key", SORTED)
def test_by_a_member(log: Log, key: str) -> None:
    """One that an entry lacks is the last; ids break ties."""
    rows = [
        (value is None, value, log.put(T0 + number % 3, **{key: value}))
        for number, value in enumerate(SORTED[key] * 2)
    ]
    ids = [row[2] for row in sorted(rows, key=lambda row: (row[0], str(row[1]), row[2]))]
    assert log.found(sort_by=key, sort_dir="asc") == ids
    assert log.found(sort_by=key) == ids[::-1]
    for limit in (1, 2, 4):
        paged = log.pages(sort_by=key, sort_dir="asc", limit=limit)
        assert [one for page in paged for one in page] == ids
        assert [len(page) for page in paged[:-1]] == [limit] * (len(paged) - 1)


def test_by_tenant(operator: Operator) -> None:
    marker = uuid.uuid4().hex
    logs = sorted((Log(operator) for _ in range(3)), key=lambda log: log.tenant)
    ids = [log.put(T0 - number, request_id=marker) for number, log in enumerate(logs)]
    found = operator.http.get(
        PATH, params={"request_id": marker, "sort_by": "tenant_id", "sort_dir": "asc"}
    ).json()["logs"]
    assert [entry["log_id"] for entry in found] == ids


# -- pages ---------------------------------------------------------------------------------------


def test_entries_of_one_millisecond(log: Log) -> None:
    ids = sorted((log.put(T0) for _ in range(60)), reverse=True)
    for limit in (1, 7, 59):
        assert [one for page in log.pages(limit=limit) for one in page] == ids
    assert log.pages(limit=60) == [ids]


def test_entries_that_come_while_one_pages(log: Log) -> None:
    ids = [log.put(T0 + number) for number in range(6)]
    first = log.ask(limit=2).json()
    log.put(T0 + 100)
    log.put(T0 + 4)  # beside the place where the page ended
    rest = log.ask(limit=50, cursor=first["next_cursor"]).json()
    seen = [entry["log_id"] for entry in (*first["logs"], *rest["logs"])]
    assert [one for one in seen if one in ids] == ids[::-1]


def test_entries_that_lapse_leave_no_hole(log: Log, operator: Operator) -> None:
    kept = []
    for number in range(20):
        log.point(f"log_gone{number}", T0 + 2 * number)
        kept.append(log.put(T0 + 2 * number + 1))
    assert log.pages(limit=8) == [kept[:11:-1], kept[11:3:-1], kept[3::-1]]
    # The row that a cursor names may be gone by the next page.
    first = log.ask(limit=8).json()
    operator.redis.delete(log.names.audit_entry(kept[12]))
    rest = log.ask(limit=50, cursor=first["next_cursor"]).json()["logs"]
    assert [entry["log_id"] for entry in rest] == kept[11::-1]


def test_cursors_are_bound_to_order_and_filter(log: Log) -> None:
    for number in range(4):
        log.put(T0 + number, operation=f"op{number % 2}")
    by_time = log.ask(limit=1).json()["next_cursor"]
    by_name = log.ask(limit=1, sort_by="operation").json()["next_cursor"]
    for cursor, other in (
        (by_time, {"sort_by": "operation"}),
        (by_time, {"sort_dir": "asc"}),
        (by_time, {"operation": "op1"}),
        (by_time, {"status_min": 100}),
        (by_time, {"from": "2020-01-01T00:00:00Z"}),
        (by_time, {"tenant_id": "another"}),
        (by_name, {"sort_by": "status"}),
        (by_name, {"sort_by": "operation", "sort_dir": "asc"}),
    ):
        refused = log.ask(limit=1, cursor=cursor, **other)
        assert error_of(refused) == INVALID
        assert "cursor" in refused.json()["message"]
    # What says the same is the same, and the order need not be said again.
    assert log.ask(cursor=by_time, sort_by="timestamp", sort_dir="desc").status_code == 200
    assert len(log.ask(cursor=by_name).json()["logs"]) == 3
    assert len(log.ask(cursor=by_time, limit=100).json()["logs"]) == 3


def fill(log: Log, number: int) -> None:
    """Many entries of an operation of their own, newer than all others."""
    pipe = log.operator.redis.pipeline(transaction=False)
    for one in range(number):
        log_id = f"log_{one:016x}"
        entry = {"log_id": log_id, "tenant_id": log.tenant, "operation": "noise", "status": 200}
        pipe.set(log.names.audit_entry(f"{log.tenant}{log_id}"), json.dumps(entry), ex=600)
        pipe.zadd(log.names.audit_tenant_index, {f"{log.tenant}{log_id}": T0 + 1_000 + one})
    pipe.execute()


def test_what_matches_rarely(log: Log) -> None:
    """A request looks at so many entries and says where it stopped."""
    oldest = log.put(T0, operation="rare")
    fill(log, 11_000)
    newest = log.put(T0 + 10_000_000, operation="rare")
    pages = log.pages(operation="rare", limit=10)
    assert [one for page in pages for one in page] == [newest, oldest]
    assert len(pages) == 3
    assert log.found(operation="rare", sort_by="operation") != []
    assert sorted(log.found(operation="rare", sort_by="status")) == sorted([newest, oldest])


# -- entries of others ---------------------------------------------------------------------------

OTHERS = {
    "timestamp": "2026-11-29T21:56:52.923832116Z",
    "user_agent": "client/1",
    "source_ip": "127.0.0.1",
    "operation": "createTenant",
    "resource_type": "tenant",
    "resource_id": "sub",
    "request_id": "228e05be-2328-4b0b-8eff-1bf42dffbbe2",
    "trace_id": TRACE,
    "status": 201,
    "metadata": {"name": "Sub"},
}


def test_entries_that_others_wrote(log: Log) -> None:
    one = log.put(**OTHERS)
    (entry,) = log.ask().json()["logs"]
    assert entry == {"log_id": one, "tenant_id": log.tenant, **OTHERS}


def test_members_that_are_null_or_odd(log: Log) -> None:
    nothing = dict.fromkeys((*OTHERS, "error_code", "key_id", "subject", "action", "amount"))
    one = log.put(**nothing)
    assert log.ask().json()["logs"] == [
        {
            "log_id": one,
            "timestamp": "2026-05-28T20:26:40.000Z",
            "tenant_id": log.tenant,
            "operation": "",
            "status": 0,
        }
    ]
    odd = {"trace_id": "XYZ", "metadata": [1], "subject": "x", "key_id": 7, "ours_not": {"a": 1}}
    two = log.put(T0 + 1, **odd)
    assert log.ask(limit=1).json()["logs"] == [
        {
            "log_id": two,
            "timestamp": "2026-05-28T20:26:40.001Z",
            "tenant_id": log.tenant,
            "operation": "fundBudget",
            "status": 200,
        }
    ]


@pytest.mark.parametrize("tenant_id", [None, "", ..., 5])
def test_nobodys_entry_is_answered_as_the_operators(operator: Operator, tenant_id: Any) -> None:
    """Others file what concerns no tenant under none."""
    marker = uuid.uuid4().hex
    Log(operator, "null").put(tenant_id=tenant_id, request_id=marker)
    (entry,) = operator.http.get(PATH, params={"request_id": marker}).json()["logs"]
    assert entry["tenant_id"] == BY_OPERATOR


@pytest.mark.parametrize(
    "stored", ["", "{", "[]", "null", "5", '{"operation":"\\ud800x"}', "[" * 100_000]
)
def test_what_is_no_entry_is_passed_over(log: Log, stored: str) -> None:
    one = log.put()
    log.put(T0 + 1, stored=stored)
    assert log.found() == [one]
    assert log.found(sort_by="operation") == [one]


def test_a_key_of_another_kind_is_passed_over(log: Log, operator: Operator) -> None:
    one = log.put()
    odd = log.put(T0 + 1)
    operator.redis.delete(log.names.audit_entry(odd))
    operator.redis.lpush(log.names.audit_entry(odd), "x")
    operator.redis.expire(log.names.audit_entry(odd), 600)
    assert log.found() == [one]


def test_numbers_keep_their_digits(log: Log) -> None:
    numbers = (
        '{"big":123456789012345678901234567890,"small":1.10,"far":1e400,"max":9007199254740993}'
    )
    stored = (
        f'{{"log_id":"x","tenant_id":"{log.tenant}","operation":"o","status":200,'
        f'"metadata":{numbers}}}'
    )
    log.put(stored=stored)
    answer = log.ask()
    assert answer.status_code == 200
    assert numbers in answer.text


# -- the other layout ----------------------------------------------------------------------------


def test_in_buckets(start: StartServer) -> None:
    """Each bucket has an index of all its entries; the list is one."""
    running = start(arguments=("admin",), CYCLES_KEY_LAYOUT="buckets")
    operator = Operator(running.redis, running.url, Keys(BucketLayout()))
    logs = [Log(operator, f"tenant-{number}") for number in range(40)]
    assert len({log.names.tag for log in logs}) > 20
    placed = sorted(
        (T0 + number // 3, log.put(T0 + number // 3, operation=f"op{number % 4}"))
        for log in logs
        for number in range(25)
    )
    ids = [log_id for _, log_id in placed]
    one = Log(operator)

    def paged(order: Callable[[list[str]], list[str]], **query: Any) -> None:
        pages = one.pages(tenant_id="", **query)
        assert [log_id for page in pages for log_id in page] == order(ids)

    paged(lambda ids: ids[::-1], limit=100)
    paged(lambda ids: ids[::-1], limit=33)
    paged(lambda ids: ids, limit=70, sort_dir="asc")
    by_name = one.pages(tenant_id="", sort_by="operation", limit=100)
    assert sorted(log_id for page in by_name for log_id in page) == sorted(ids)
    assert len(logs[3].found()) == 25
    refused = operator.http.get("/v1/admin/tenants/nobody-here")
    query = {"tenant_id": "", "request_id": refused.headers["x-request-id"]}
    found = one.ask(**query).json()["logs"]
    assert [entry["tenant_id"] for entry in found] == [BY_OPERATOR]
