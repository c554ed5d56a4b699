"""Lapsed reservations by the thousand, damaged ones among them, and several sweepers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.agents import check_books
from support.metrics import metric
from support.reading import put_reservation
from support.running import Running, StartServer
from support.server import CyclesServer
from support.tenants import Tenant
from support.wire import Wire, eventually

LEVELS = "workspace:prod/agent:bot"
"""Below the tenant: three scopes in all."""
EXPIRED = "cycles_reservations_expired_total"
QUARANTINED = "cycles_reservations_quarantined_total"
MAX = 2**63 - 1


def now(running: Running) -> int:
    seconds, micros = running.redis.time()
    return int(seconds * 1000 + micros // 1000)


def three_budgets(tenant: Tenant, reserved: int, allocated: int) -> list[str]:
    scopes = [f"tenant:{tenant.name}"]
    for level in LEVELS.split("/"):
        scopes.append(f"{scopes[-1]}/{level}")
    for scope in scopes:
        tenant.budget(scope, allocated, remaining=allocated - reserved, reserved=reserved)
    return scopes


def put(
    pipe: Any, tenant: Tenant, lapse: int, amount: int = 10, scope: str = LEVELS, **fields: str
) -> str:
    """A stored reservation without grace that lapses at a time."""
    record = {"estimate_amount": str(amount), "expires_at": str(lapse), "grace_ms": "0", **fields}
    reservation = put_reservation(pipe, tenant.names, lapse - 1000, scope=scope, **record)
    pipe.zadd(tenant.names.ttl, {reservation: lapse})
    return reservation


@pytest.fixture(scope="module")
def servers(
    start_once: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Running]]:
    """Three servers of one store."""
    first = start_once()
    folder = tmp_path_factory.mktemp("servers")
    others = [CyclesServer(first.store.url, folder / f"{number}.log") for number in range(2)]
    yield [first, *(Running(server, first.store) for server in others)]
    for server in others:
        server.stop()


@pytest.fixture
def running(servers: list[Running]) -> Running:
    """One of them, the store empty."""
    servers[0].redis.flushall()
    return servers[0]


def counted(servers: list[Running], name: str, **labels: str) -> float:
    return sum(metric(server.url, name, **labels) for server in servers)


def test_thousands_lapse_once_each(servers: list[Running], running: Running) -> None:
    tenant, busy = running.tenant(), running.tenant()
    number, amount = 12_000, 10
    scopes = three_budgets(tenant, number * amount, 10**9)
    busy.budget()
    lapse = now(running) + 1500
    pipe = running.redis.pipeline(transaction=False)
    for _ in range(number):
        put(pipe, tenant, lapse, amount)
    pipe.execute()

    async def requests_go_on() -> int:
        wire = await Wire.open(running.server.port)
        sent = 0
        while tenant.amounts()["reserved"]:
            body = busy.reserve_body(1)
            answer = await wire.call("POST", "/v1/reservations", body, key=busy.secret)
            assert answer.status == 200
            sent += 1
            await asyncio.sleep(0.02)
        return sent

    async def trial() -> int:
        async with asyncio.timeout(60):
            return await requests_go_on()

    sent = asyncio.run(trial())
    for scope in scopes:
        assert tenant.amounts(scope) == {
            "allocated": 10**9, "remaining": 10**9, "reserved": 0, "spent": 0, "debt": 0,
        }  # fmt: skip
    eventually(lambda: counted(servers, EXPIRED, tenant=tenant.name) == number)
    assert busy.amounts()["reserved"] == sent
    assert tenant.list(status="EXPIRED", limit=1).json()["reservations"]
    check_books(tenant)


DAMAGES: dict[str, tuple[dict[str, str], str]] = {
    "no expiry": ({"expires_at": "soon"}, "INVALID_EXPIRY"),
    "not a number": ({"expires_at": "nan"}, "INVALID_EXPIRY"),
    "endless": ({"expires_at": "inf"}, "INVALID_EXPIRY"),
    "no grace": ({"grace_ms": "-inf"}, "INVALID_EXPIRY"),
    "no estimate": ({"estimate_amount": ""}, "INVALID_ESTIMATE"),
    "half an estimate": ({"estimate_amount": "1.5"}, "INVALID_ESTIMATE"),
    "negative": ({"estimate_amount": "-5"}, "INVALID_ESTIMATE"),
    "no scopes": ({"affected_scopes": "[]"}, "MISSING_SCOPES"),
    "scopes torn": ({"affected_scopes": '["tenant:x'}, "MALFORMED_SCOPES"),
    "scopes of another kind": ({"affected_scopes": '{"a":1}'}, "MALFORMED_SCOPES"),
}


def test_damaged_records_hold_up_nobody(servers: list[Running], running: Running) -> None:
    redis = running.redis
    good, other = running.tenant(), running.tenant()
    past = now(running) - 60_000
    scopes = three_budgets(good, 40 * 10, 1_000_000)
    three_budgets(other, 10, 1_000_000)
    broken = other.budget(f"tenant:{other.name}/app:broken", remaining="many")

    pipe = redis.pipeline()  # at once, so that no sweep comes between
    pipe.zadd(good.names.ttl, {b"\xff\xfe": past - 5})  # no id at all
    gone = "00000000-0000-4000-8000-000000000000"
    pipe.zadd(good.names.ttl, {gone: past - 4})
    wrong_type = "00000000-0000-4000-8000-000000000001"
    pipe.rpush(good.names.reservation(wrong_type), "x")
    pipe.zadd(good.names.ttl, {wrong_type: past - 3})
    bad = {name: put(pipe, good, past, **fields) for name, (fields, _) in DAMAGES.items()}
    nameless, odd_name = put(pipe, good, past), put(pipe, good, past)
    pipe.hdel(good.names.reservation(nameless), "tenant")
    pipe.hset(good.names.reservation(odd_name), "tenant", b"\xff")
    stuck = put(pipe, other, past, scope="app:broken")
    last = [put(pipe, good, past + n) for n in range(40)]
    kept = put(pipe, other, past + 50)
    pipe.execute()

    eventually(lambda: good.amounts()["reserved"] == 0 and other.amounts()["reserved"] == 0)
    for scope in scopes:
        assert good.amounts(scope)["remaining"] == 1_000_000
    for reservation in [*last, kept]:
        assert redis.hget(good.names.reservation(reservation), "state") == b"EXPIRED"
    eventually(lambda: counted(servers, QUARANTINED) == len(DAMAGES) + 1)
    reasons = [reason for _, reason in DAMAGES.values()]
    for reason in set(reasons):
        tenant = {"tenant": good.name}
        assert counted(servers, QUARANTINED, reason=reason, **tenant) == reasons.count(reason)
    set_aside = {row.decode() for row in redis.zrange(good.names.quarantine, 0, -1)}
    assert set_aside == {*bad.values(), nameless}
    left = set(redis.zrange(good.names.ttl, 0, -1))
    assert left == {b"\xff\xfe", wrong_type.encode(), odd_name.encode(), stuck.encode()}
    # What could not be settled is, once it has been repaired.
    redis.hset(other.names.budget(broken, "TOKENS"), "remaining", "1000000")
    eventually(lambda: redis.hget(good.names.reservation(stuck), "state") == b"EXPIRED")


def test_rows_in_their_grace_wait_and_block_nobody(running: Running) -> None:
    tenant = running.tenant()
    waiting, lapsed = 1200, 60
    three_budgets(tenant, (waiting + lapsed) * 10, 1_000_000)
    past = now(running) - 60_000
    pipe = running.redis.pipeline(transaction=False)
    in_grace = [put(pipe, tenant, past, grace_ms="3600000") for _ in range(waiting)]
    over = [put(pipe, tenant, past + 1 + n) for n in range(lapsed)]
    pipe.execute()
    eventually(lambda: tenant.amounts()["reserved"] == waiting * 10)
    for reservation in over:
        assert tenant.get(reservation).status_code == 410
    assert running.redis.zcard(tenant.names.ttl) == waiting
    assert tenant.release(in_grace[7]).status_code == 200
    assert tenant.commit(in_grace[8], 10).status_code == 200
    check_books(tenant)


def test_amounts_up_to_the_end_of_int64(running: Running) -> None:
    tenant = running.tenant()
    amounts = [MAX // 64 - n for n in range(60)]
    debt = 7
    scopes = [
        tenant.budget(
            scope,
            MAX,
            remaining=MAX - sum(amounts) - debt,
            reserved=sum(amounts),
            debt=debt,
        )
        for scope in (f"tenant:{tenant.name}", f"tenant:{tenant.name}/app:a")
    ]
    past = now(running) - 60_000
    pipe = running.redis.pipeline()
    for amount in amounts:
        put(pipe, tenant, past, amount, scope="app:a")
    pipe.execute()
    eventually(lambda: tenant.amounts()["reserved"] == 0)
    for scope in scopes:
        assert tenant.amounts(scope)["remaining"] == MAX - debt
    check_books(tenant)
