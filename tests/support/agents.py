"""Agents that work through faults, and the account of what they were told.

An agent repeats every request with its own key until it gets a definite answer. What the answers
say must then be what the store holds: each effect once, none lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cycles_server.doctor.examine import examine
from support.stores import on_store
from support.tenants import UNIT, Tenant, new_key
from support.wire import Answer, Wire

_PAUSE_S = 0.02
"""Before an agent repeats a request that failed."""
_LIVE_AT_MOST = 5
"""Reservations that an agent keeps open."""
_SAMPLE = 10
"""Answers of each agent that are asked for again, beside those that took more than one try."""


@dataclass(slots=True)
class Request:
    path: str
    body: dict[str, Any]
    sent: int = 0
    answer: dict[str, Any] = field(default_factory=dict)


class Agent:
    """Reserves, commits, releases, extends and debits at random on a budget of its own.

    Attributes:
        answered: every request with a definite answer.
        failures: the 500s it met.
        lost: how many requests ended with their connection.
        losses: for each of those, seconds since the server last had a sign of life from the agent:
            the request before it, or the connection's beginning.
        wrong: answers that no agent should ever get.

    Args:
        fresh: whether every request gets a connection of its own.
        rest_s: the longest pause between two acts.
    """

    def __init__(
        self,
        port: int,
        tenant: Tenant,
        name: str,
        seed: int,
        *,
        fresh: bool = False,
        rest_s: float = 0.0,
    ) -> None:
        self.tenant = tenant
        self.scope = tenant.budget(f"tenant:{tenant.name}/agent:{name}", 10**9)
        self.answered: list[Request] = []
        self.failures: list[Answer] = []
        self.losses: list[float] = []
        self.wrong: list[Answer] = []
        self._subject = tenant.subject(agent=name)
        self._action = {"kind": "llm.completion", "name": "test-model"}
        self._port = port
        self._fresh = fresh
        self._rest_s = rest_s
        self._last_sign = 0.0
        self._random = random.Random(seed)
        self._wire: Wire | None = None
        self._live: list[tuple[str, int]] = []
        self._spent = 0

    async def work(self, stop: Callable[[], bool]) -> None:
        """Go on until told to stop; the request under way is seen through to its answer."""
        while not stop():
            await self._act()
            if self._rest_s:
                await asyncio.sleep(self._random.uniform(0, self._rest_s))
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _act(self) -> None:
        amount = self._random.randrange(1, 1000)
        if not self._live or (len(self._live) < _LIVE_AT_MOST and self._random.random() < 0.5):
            body = {"estimate": {"unit": UNIT, "amount": amount}, "ttl_ms": 3_600_000}
            answer = await self._insist("/v1/reservations", self._addressed(body))
            if answer:
                self._live.append((answer["reservation_id"], amount))
            return
        kind = self._random.choice(("commit", "release", "extend", "event"))
        if kind == "event":
            body = {"actual": {"unit": UNIT, "amount": amount}}
            if await self._insist("/v1/events", self._addressed(body)):
                self._spent += amount
            return
        reservation, held = self._random.choice(self._live)
        path = f"/v1/reservations/{reservation}/{kind}"
        if kind == "extend":
            if len(self._sent_to(path)) < 10:
                await self._insist(path, {"extend_by_ms": 1000})
        elif kind == "release":
            if await self._insist(path, {}):
                self._live.remove((reservation, held))
        else:
            amount = min(amount, held)
            if await self._insist(path, {"actual": {"unit": UNIT, "amount": amount}}):
                self._live.remove((reservation, held))
                self._spent += amount

    def _addressed(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"subject": self._subject, "action": self._action, **body}

    def _sent_to(self, path: str) -> list[Request]:
        return [request for request in self.answered if request.path == path]

    async def _insist(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of the request, sent as often as it takes; {} if it is a wrong one."""
        request = Request(path, {"idempotency_key": new_key(), **body})
        while True:
            answer = await self._try(request)
            if answer is None:
                await asyncio.sleep(_PAUSE_S)
                continue
            if answer.status not in (200, 201):
                self.wrong.append(answer)
                return {}
            request.answer = answer.body
            self.answered.append(request)
            return request.answer

    async def _try(self, request: Request) -> Answer | None:
        request.sent += 1
        try:
            if self._wire is None:
                self._last_sign = time.monotonic()
                self._wire = await Wire.open(self._port)
            sent = time.monotonic()
            answer = await self._wire.call(
                "POST", request.path, request.body, key=self.tenant.secret
            )
            self._last_sign = sent
        except (OSError, EOFError):
            self.losses.append(time.monotonic() - self._last_sign)
            self._wire = None
            return None
        self.look_at(request, answer)
        if self._fresh or answer.headers.get("connection") == "close":
            self._wire.close()
            self._wire = None
        if answer.store_away:
            self.failures.append(answer)
            return None
        return answer

    def look_at(self, request: Request, answer: Answer) -> None:
        """Called with each answer that comes."""

    # -- the account -------------------------------------------------------------------------

    @property
    def lost(self) -> int:
        return len(self.losses)

    @property
    def held(self) -> int:
        return sum(amount for _, amount in self._live)

    @property
    def spent(self) -> int:
        return self._spent

    def check(self) -> None:
        """What the agent was told is what the store holds, and replays say it again."""
        assert not self.wrong, self.wrong[0]
        amounts = self.tenant.amounts(self.scope)
        assert (amounts["reserved"], amounts["spent"]) == (self.held, self.spent)
        assert amounts["remaining"] == amounts["allocated"] - self.held - self.spent
        live = {reservation for reservation, _ in self._live}
        repeated = [request for request in self.answered if request.sent > 1]
        for request in repeated + self._random.choices(self.answered, k=_SAMPLE):
            again = self.tenant.http.post(request.path, json=request.body)
            assert again.status_code in (200, 201), again.text
            assert _lasting(again.json()) == _lasting(request.answer)
            reservation = request.answer.get("reservation_id")
            if reservation:
                status = self.tenant.get(reservation).json()["status"]
                assert (status == "ACTIVE") is (reservation in live)
        assert self.tenant.amounts(self.scope) == amounts


def _lasting(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "remaining_ttl_ms"}


class Crew:
    """Some agents of one tenant."""

    def __init__(self, port: int, tenant: Tenant, size: int = 8) -> None:
        self.tenant = tenant
        tenant.budget(allocated=10**12)
        self.agents = [Agent(port, tenant, f"a{number}", number) for number in range(size)]

    def run_through(self, faults: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let them work while the faults happen, and a little before and after."""

        async def run() -> None:
            over = False
            # Where a fault goes wrong, the group ends their work: nobody may ever answer them.
            async with asyncio.TaskGroup() as group:
                for agent in self.agents:
                    group.create_task(agent.work(lambda: over))
                await self.progress(3)
                await faults()
                await self.progress(3)
                over = True

        asyncio.run(run())

    async def progress(self, requests: int = 1) -> None:
        """Wait until every agent has got so many more answers."""
        goals = [len(agent.answered) + requests for agent in self.agents]
        async with asyncio.timeout(120):
            while any(
                len(agent.answered) < goal for agent, goal in zip(self.agents, goals, strict=True)
            ):
                await asyncio.sleep(0.01)
                for agent in self.agents:
                    assert not agent.wrong, agent.wrong[0]

    @property
    def failures(self) -> list[Answer]:
        return [failure for agent in self.agents for failure in agent.failures]

    @property
    def lost(self) -> int:
        return sum(agent.lost for agent in self.agents)

    def check(self) -> None:
        """Each agent's account, the tenant's budget as their sum, and the ledger as a whole."""
        for agent in self.agents:
            agent.check()
        amounts = self.tenant.amounts()
        assert amounts["reserved"] == sum(agent.held for agent in self.agents)
        assert amounts["spent"] == sum(agent.spent for agent in self.agents)
        assert amounts["remaining"] == (
            amounts["allocated"] - amounts["reserved"] - amounts["spent"]
        )
        check_books(self.tenant)


def check_books(tenant: Tenant) -> None:
    """The whole ledger agrees with itself."""
    address = tenant.redis.connection_pool.connection_kwargs["path"]
    report = on_store(f"unix://{address}", examine, tenant.keys)
    assert report.counted, "nothing was looked at"
    # Most tenants of the tests have no record; that is no matter of the books.
    wrong = [finding for finding in report.findings if finding.code != "KEY_TENANT"]
    assert not wrong, wrong
