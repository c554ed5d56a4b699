"""Everything at once: strangers of every kind, and clients beside them that notice nothing.

It goes on for half a minute, which ``CYCLES_HAMMER_SECONDS`` makes longer or shorter, and about as
long goes to warming up and settling down. ``CYCLES_HAMMER_SEED`` repeats the choices of a run that
failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile.half import reserve
from hostile.siege import KINDS, Siege
from hostile.stranger import LIVENESS, Reply, Stranger, Target
from support.agents import Agent, Request, check_books
from support.running import Running, StartServer
from support.server import ADMIN_KEY
from support.tenants import Tenant
from support.wire import ANSWER_SECONDS, Answer, Wire, call_once, eventually

from cycles_server.contract.document import load_contract
from cycles_server.contract.schemas import SchemaCompiler

SECONDS = float(os.environ.get("CYCLES_HAMMER_SECONDS", "30"))
SEED = int(os.environ.get("CYCLES_HAMMER_SEED", random.randrange(10**9)))
MOST_CONNECTIONS = 150

# How many of each kind come at a time: in all, and at most times, more than there may be.
CROWD = {
    "silent": 100,
    "dripped-head": 40,
    "dripped-body": 40,
    "unread": 20,
    "long-head": 8,
    "big-body": 4,
    "chunk-extensions": 8,
    "junk-json": 4,
    "half": 25,
    "half-closed": 15,
    "noise": 15,
    "tls-hello": 5,
    "bad-chunks": 10,
    "upgrade": 10,
    "hidden": 10,
    "good-then-bad": 10,
    "mutated": 15,
    "scanner": 10,
    "wrong-key": 8,
}

REST_S = 1.5
"""The longest pause of a stranger between two visits: the load is to stay within what two
processors bear, for the good ones to get somewhere."""
MOMENT_S = 1.0
"""A server with too many connections closes none that has waited less than this for its client."""
GROWTH_MB = 40
"""From then on: connections hold up to 128 KiB each of what they sent and have not read, and
the gaps between what is kept may be as much again."""

_LISTENS = "0A"


class CarefulAgent(Agent):
    """Looks at every answer whole.

    Attributes:
        count: how many it has got.
    """

    count = 0

    def look_at(self, request: Request, answer: Answer) -> None:
        assert answer.headers["x-cycles-tenant"] == self.tenant.name, answer
        self.count += 1
        *_, last = request.path.split("/")
        check_shape(OPERATIONS[last], answer)


OPERATIONS = {
    "reservations": "ReservationCreateResponse",
    "commit": "CommitResponse",
    "release": "ReleaseResponse",
    "extend": "ReservationExtendResponse",
    "events": "EventCreateResponse",
}
READS = {
    ("balances", False): "BalanceResponse",
    ("reservations", False): "ReservationListResponse",
    ("reservations", True): "ReservationDetail",
}
_COMPILER = SchemaCompiler(load_contract("cycles-protocol-v0.yaml").document)
_SHAPES: dict[str, Any] = {
    name: _COMPILER.compile({"$ref": f"#/components/schemas/{name}"})
    for name in (*OPERATIONS.values(), *READS.values(), "ErrorResponse")
}


def check_shape(schema: str, answer: Answer | Reply) -> None:
    shape, body = _SHAPES[schema], answer.body
    assert shape.is_valid(body), (answer, shape.violation(body))


class Client:
    """Asks again and again, over one connection or a new one each time.

    Attributes:
        count: answers it has got.
        losses: as an agent's.
    """

    def __init__(self, port: int, *, seed: int = 0, fresh: bool = True) -> None:
        self.count = 0
        self.losses: list[float] = []
        self.random = random.Random(seed)
        self._port = port
        self._fresh = fresh

    async def ask(self, wire: Wire) -> None:
        raise NotImplementedError

    async def work(self, stop: Callable[[], bool]) -> None:
        wire, last_sign = None, 0.0
        while not stop():
            try:
                if wire is None:
                    last_sign = time.monotonic()
                    wire = await Wire.open(self._port)
                sent = time.monotonic()
                await self.ask(wire)
                last_sign = sent
            except (ConnectionError, EOFError):
                self.losses.append(time.monotonic() - last_sign)
                wire = None
                continue
            self.count += 1
            if self._fresh:
                wire.close()
                wire = None
            await asyncio.sleep(0.05)
        if wire is not None:
            wire.close()


class Probe(Client):
    """Asks whether the server lives."""

    async def ask(self, wire: Wire) -> None:
        answer = await wire.call("GET", LIVENESS)
        assert (answer.status, answer.body) == (200, {"status": "UP"}), answer


class Reader(Client):
    """Reads its tenant's balances and reservations, and gets nobody else's."""

    def __init__(self, port: int, tenant: Tenant, *, seed: int, fresh: bool) -> None:
        super().__init__(port, seed=seed, fresh=fresh)
        self._tenant = tenant
        self._seen: list[str] = []

    async def ask(self, wire: Wire) -> None:
        own = f"tenant:{self._tenant.name}"
        match self.random.choice(["balances", "list", "get"]):
            case "balances":
                body = await self._read(wire, f"/v1/balances?tenant={self._tenant.name}")
                assert body["balances"]
                for row in body["balances"]:
                    assert row["scope_path"].partition("/")[0] == own, row
            case "get" if self._seen:
                wanted = self.random.choice(self._seen)
                body = await self._read(wire, f"/v1/reservations/{wanted}")
                assert body["reservation_id"] == wanted
                assert body["subject"]["tenant"] == self._tenant.name
            case _:
                body = await self._read(wire, "/v1/reservations?limit=20")
                for row in body["reservations"]:
                    assert row["subject"]["tenant"] == self._tenant.name, row
                self._seen = [row["reservation_id"] for row in body["reservations"]]

    async def _read(self, wire: Wire, path: str) -> dict[str, Any]:
        answer = await wire.call("GET", path, key=self._tenant.secret)
        assert answer.status == 200, answer
        assert answer.headers["x-cycles-tenant"] == self._tenant.name, answer
        _, _, kind, *one = path.partition("?")[0].split("/")
        check_shape(READS[kind, bool(one)], answer)
        body: dict[str, Any] = answer.body
        return body


class Told:
    """What strangers were told: nothing but what they may be."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()

    def __call__(self, name: str, reply: Reply) -> None:
        self.counts[name, reply.status] += 1
        assert reply.status in KINDS[name].statuses, (name, reply)
        assert "x-cycles-tenant" not in reply.headers or reply.status != 401, (name, reply)
        if reply.status >= 400 and reply.content:
            check_shape("ErrorResponse", reply)
            assert reply.body["request_id"] == reply.headers["x-request-id"]


@pytest.fixture
def hammered(start: StartServer) -> Running:
    return start(
        CYCLES_MAX_CONNECTIONS=str(MOST_CONNECTIONS),
        CYCLES_HEAD_TIMEOUT_SECONDS="2",
        CYCLES_BODY_TIMEOUT_SECONDS="2",
        CYCLES_WRITE_TIMEOUT_SECONDS="2",
        CYCLES_IDLE_TIMEOUT_SECONDS="5",
        # Nobody is to hear that the store is away because the machine is slow.
        REDIS_POOL_MAX_WAIT_MS="20000",
    )


@pytest.mark.usefixtures("many_files")
def test_hammer(hammered: Running) -> None:
    print(f"CYCLES_HAMMER_SEED={SEED}")
    port, pid = hammered.server.port, hammered.server.process.pid
    stranger = hammered.tenant()
    target = Target(port, stranger.secret, ADMIN_KEY, pause_s=0.2, patience_s=2 * ANSWER_SECONDS)
    tenants = [hammered.tenant(), hammered.tenant()]
    agents: list[CarefulAgent] = []
    readers: list[Reader] = []
    for number, tenant in enumerate(tenants):
        tenant.budget(allocated=10**12)
        for fresh in (False, False, True):
            seed = SEED + len(agents)
            agent = CarefulAgent(
                port, tenant, f"a{number}{len(agents)}", seed, fresh=fresh, rest_s=0.1
            )
            agents.append(agent)
        readers += [Reader(port, tenant, seed=SEED, fresh=fresh) for fresh in (False, True)]
    clients = (*agents, *readers, Probe(port))
    told = Told()

    async def hammer(seconds: float, seed: int) -> None:
        end = time.monotonic() + seconds

        def over() -> bool:
            return time.monotonic() > end

        async with asyncio.TaskGroup() as group:
            group.create_task(Siege(target, CROWD, seed=seed, pause_s=REST_S, told=told).last(over))
            for client in clients:
                group.create_task(client.work(over))

    async def all_threads() -> None:
        """Make the server start all the threads that it may have."""
        paths = ["/actuator/health", "/actuator/prometheus"] * 20
        await asyncio.gather(*(call_once(port, "GET", path, admin=ADMIN_KEY) for path in paths))

    asyncio.run(all_threads())
    asyncio.run(hammer(max(5, SECONDS / 6), SEED + 1))
    settled = settle(pid, port)
    asyncio.run(hammer(SECONDS, SEED))
    asyncio.run(left_alone(target))
    after = settle(pid, port)
    print(f"before {settled}, after {after}, {told.counts}")
    print([(client.count, client.losses) for client in clients])

    log = hammered.server.log.read_text()
    # Lines alone: all of it would bury them.
    assert not re.findall(r"^.*(?: ERROR |Traceback|Exception ).*$", log, re.MULTILINE)
    for client in clients:
        assert all(MOMENT_S < loss < ANSWER_SECONDS for loss in client.losses), client.losses
        assert client.count
    for agent in agents:
        assert not agent.failures, agent.failures[0]
        agent.check()
    for tenant in tenants:
        check_books(tenant)
    check_books(stranger)
    # Each kind that may be told something was told it, and the server is what it was.
    assert {name for name, _ in told.counts} == set(CROWD)
    assert after["sockets"] <= settled["sockets"]
    assert after["threads"] <= settled["threads"]
    assert after["megabytes"] <= settled["megabytes"] + GROWTH_MB


async def left_alone(target: Target) -> None:
    """Some stay and say nothing more: the server sends them away by itself."""
    staying = [await Stranger.open(target) for _ in range(50)]
    data = reserve(target)
    for number, stranger in enumerate(staying):
        await stranger.say(data[: number * len(data) // 40])
    for stranger in staying:
        await stranger.rest()
        stranger.close()


def settle(pid: int, port: int) -> dict[str, float]:
    """What the process has open once all its clients are gone."""
    eventually(lambda: not sockets(pid) & connections(port))
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "sockets": len(sockets(pid)),
        "threads": int(values["Threads"]),
        "megabytes": int(values["VmRSS"].split()[0]) / 1024,
    }


def sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(file)
            if name.startswith("socket:["):
                found.add(name[8:-1])
    return found


def connections(port: int) -> set[str]:
    """The inodes of this port's connections, both ends' (but for the socket that listens)."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *fields = line.split()
        if int(local.rpartition(":")[2], 16) == port and state != _LISTENS:
            found.add(fields[5])
    return found
