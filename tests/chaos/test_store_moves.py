"""A fail-over behind an address that follows the master, while open connections stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support.agents import Crew, check_books
from support.metrics import metric
from support.proxy import Proxy
from support.redis import RedisServer
from support.running import Running
from support.server import CyclesServer, free_port
from support.wire import eventually

from cycles_server.store.connection import SharedConnection
from cycles_server.store.errors import StoreRefused

MAINTENANCE = "cycles_maintenance_runs_total"
SLOW_LOADING = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
"""A millisecond for each record, as if the file had many gigabytes, and answers in between."""


OWN_KEYS = {"ballast:.+": "what makes loading slow", "asked": "what a test asks for by itself"}


class Node(RedisServer):
    """A store that another one can reach."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        super().__init__(folder, *options, "--repl-diskless-sync-delay", "0", port=self.port)
        self.may_stay = OWN_KEYS

    @property
    def role(self) -> str:
        role: str = self.client.info("replication")["role"]
        return role

    def follow(self, master: Node) -> None:
        """Copy it, up to its last write."""
        self.client.replicaof("127.0.0.1", master.port)
        eventually(lambda: self.client.info("replication")["master_link_status"] == "up")
        eventually(lambda: master.client.info("replication")["slave0"]["state"] == "online")


@dataclass
class Pair:
    """A server whose store is reached through the proxy: first the old master, then the new."""

    server: CyclesServer
    proxy: Proxy
    old: Node
    new: Node

    @property
    def running(self) -> Running:
        """The server with the store that the proxy leads to at last."""
        return Running(self.server, self.new)

    def hand_over(self) -> None:
        """Make the new one the master without losing a write, and the old one its replica."""
        self.old.client.execute_command("FAILOVER", "TO", "127.0.0.1", self.new.port)
        eventually(lambda: (self.old.role, self.new.role) == ("slave", "master"))

    def fail_over(self) -> None:
        self.hand_over()
        self.proxy.point_to(self.new.port)

    def readiness(self) -> int:
        url = f"{self.server.url}/actuator/health/readiness"
        return httpx.get(url, timeout=10).status_code


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    old, new = Node(tmp_path / "old"), Node(tmp_path / "new")
    new.follow(old)
    with ExitStack() as stack:
        stack.callback(new.stop)
        stack.callback(old.stop)
        yield old, new


@pytest.fixture
def pair(
    nodes: tuple[Node, Node], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    old, new = nodes
    proxy = Proxy(old.port)
    settings: dict[str, str] = getattr(request, "param", {})
    server = CyclesServer(
        f"redis://127.0.0.1:{proxy.port}", tmp_path / "server.log", settings=settings
    )
    yield Pair(server, proxy, old, new)
    server.stop()
    proxy.close()


def test_agents_work_through_a_fail_over(pair: Pair) -> None:
    eventually(lambda: pair.readiness() == 200)
    crew = Crew(pair.server.port, Running(pair.server, pair.old).tenant())

    async def faults() -> None:
        await asyncio.to_thread(pair.fail_over)
        await crew.progress(3)

    crew.run_through(faults)
    assert not crew.lost
    crew.tenant.redis = pair.new.client
    crew.check()
    eventually(lambda: pair.readiness() == 200)
    sweeps = metric(pair.server.url, MAINTENANCE, job="expiry", outcome="success")
    eventually(
        lambda: metric(pair.server.url, MAINTENANCE, job="expiry", outcome="success") > sweeps + 1
    )
    crew.tenant.reserve(100, ttl_ms=1000, grace_period_ms=0)
    held = crew.tenant.amounts()["reserved"]
    eventually(lambda: crew.tenant.amounts()["reserved"] == held - 100)
    eventually(lambda: not connected(pair.old))


@pytest.mark.parametrize("pair", [{"CYCLES_EXPIRY_INTERVAL_MS": "3600000"}], indirect=True)
def test_reads_alone_leave_the_old_master_too(pair: Pair) -> None:
    tenant = Running(pair.server, pair.old).tenant()
    tenant.budget()
    assert tenant.balances().status_code == 200
    pair.fail_over()
    pair.old.client.replicaof("127.0.0.1", free_port())  # from here on it learns nothing new
    tenant.redis = pair.new.client
    tenant.budget(f"tenant:{tenant.name}/app:made-after")
    eventually(lambda: len(tenant.balances().json()["balances"]) == 2)


def test_a_store_that_stays_a_replica_for_a_while(pair: Pair) -> None:
    tenant = Running(pair.server, pair.old).tenant()
    tenant.budget()
    reservation = tenant.reserved(100)
    eventually(lambda: pair.readiness() == 200)
    pair.hand_over()  # and the address still leads to the old one
    before, began = pair.proxy.accepted, time.monotonic()
    body = tenant.reserve_body(10)
    while time.monotonic() < began + 5:  # the fault itself
        refused = tenant.http.post("/v1/reservations", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (500, "1")
        reads = [tenant.get(reservation), tenant.list(), tenant.balances()]
        assert [answer.status_code for answer in reads] == [200] * 3
        pair.readiness()
    assert pair.readiness() == 503
    # One a second for each of three: the calls', the sweeper's, the probe's.
    made = pair.proxy.accepted - before
    assert 3 <= made <= 3 * (time.monotonic() - began + 1)

    pair.old.client.replicaof("NO", "ONE")
    for _ in range(2):
        assert tenant.http.post("/v1/reservations", json=body).status_code == 200
    eventually(lambda: pair.readiness() == 200)
    assert tenant.amounts()["reserved"] == 110
    check_books(tenant)


def test_a_master_that_comes_back_and_loads_for_long(pair: Pair) -> None:
    tenant = Running(pair.server, pair.old).tenant()
    tenant.budget()
    reservation = tenant.reserved(100)
    for number in range(0, 20_000, 1000):
        pair.old.client.mset({f"ballast:{number + i}": i for i in range(1000)})
    pair.old.client.bgrewriteaof()  # so that they load one by one
    eventually(lambda: not pair.old.client.info("persistence")["aof_rewrite_in_progress"])
    pair.old.client.wait(1, 10_000)

    pair.old.kill()
    pair.new.client.replicaof("NO", "ONE")
    pair.old.start(*SLOW_LOADING, wait=False)
    body = tenant.reserve_body(10)

    def refusals() -> str:
        assert tenant.http.post("/v1/reservations", json=body).status_code == 500
        return pair.server.log.read_text()

    eventually(lambda: "store refused: BusyLoadingError" in refusals())
    pair.proxy.point_to(pair.new.port)
    eventually(lambda: tenant.http.post("/v1/reservations", json=body).status_code == 200)
    assert tenant.commit(reservation, 70).status_code == 200
    eventually(lambda: pair.readiness() == 200)
    tenant.redis = pair.new.client
    assert pair.old.client.info("persistence")["loading"], "it was to load through all of this"
    amounts = tenant.amounts()
    assert (amounts["reserved"], amounts["spent"]) == (10, 70)
    check_books(tenant)


def test_what_the_left_connection_owes_is_still_answered(nodes: tuple[Node, Node]) -> None:
    old, _ = nodes
    old.client.set("asked", "answer")
    old.client.replicaof("127.0.0.1", free_port())

    async def calls() -> None:
        connection = SharedConnection(old.url, timeout_ms=10_000)
        together = [
            connection.command("SET", "asked", "other"),
            connection.command("GET", "asked"),
            connection.command("SET", "asked", "other"),
            connection.command("GET", "asked"),
        ]
        answers = await asyncio.gather(*together, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreRefused, bytes] * 2
        # A call is on its way over the connection that the next one will leave.
        await asyncio.to_thread(old.pause)
        owed = connection.command("GET", "asked")
        await asyncio.sleep(1.2)
        beside = connection.command("GET", "asked")
        await asyncio.sleep(0.2)
        await asyncio.to_thread(old.resume)
        assert await asyncio.gather(owed, beside) == [b"answer"] * 2
        await asyncio.to_thread(eventually, lambda: connected(old) == ["cycles-server"])
        await connection.close()

    asyncio.run(calls())
    # The two SETs, and on either connection the question whether it leads to a master.
    assert old.client.info("stats")["total_error_replies"] == 4


def connected(node: Node) -> list[str]:
    """The names of a server's connections to the node."""
    names = [client["name"] for client in node.client.client_list()]
    return [name for name in names if name.startswith("cycles-server")]
