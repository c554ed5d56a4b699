"""Requests whose times are measured here rather than by ``wrk``: at a set rate, or all at once."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from benchmarks.tenant import UNIT, Tenant

LIVENESS = b"GET /actuator/health/liveness HTTP/1.1\r\nHost: benchmark\r\n\r\n"
_PATIENCE_S = 30.0


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> int:
        """The status of the answer. Raises: OSError or EOFError if none comes."""
        self._writer.write(request)
        async with asyncio.timeout(_PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await self._reader.readexactly(int(length))
        return int(head.split(maxsplit=2)[1])

    def close(self) -> None:
        self._writer.close()


@dataclass
class Times:
    """Milliseconds of each request that was answered 200, and how many were not."""

    taken: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p99(self) -> float:
        return percentile(self.taken, 99)

    @property
    def most(self) -> float:
        return max(self.taken)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many per cent do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def reserve_request(tenant: Tenant, metadata: str = "") -> bytes:
    """A reserve under a fresh idempotency key."""
    body = {
        "idempotency_key": str(uuid.uuid4()),
        "subject": {"tenant": tenant.name, "workspace": "production", "agent": "summarizer"},
        "action": {"kind": "llm.completion", "name": "openai:gpt-4o"},
        "estimate": {"unit": UNIT, "amount": 100},
        "ttl_ms": 3_600_000,
    }
    if metadata:
        body["metadata"] = {"note": metadata}
    content = orjson.dumps(body)
    return (
        b"POST /v1/reservations HTTP/1.1\r\nHost: benchmark\r\nContent-Type: application/json\r\n"
        b"X-Cycles-API-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (tenant.secret.encode(), len(content), content)
    )


async def ask_steadily(
    port: int, request: Callable[[], bytes], *, every_s: float, seconds: float, fresh: bool = False
) -> Times:
    """Ask at a set rate, whatever the answers take: a slow one does not spare the next its wait.

    Args:
        fresh: over a new connection each time; else over one that is free, and open.
    """
    times, free = Times(), list[Line]()

    async def ask(due: float) -> None:
        try:
            line = free.pop() if free else await Line.open(port)
            status = await line.ask(request())
        except (OSError, EOFError):
            times.failed += 1
            return
        if status == 200:
            times.taken.append((time.perf_counter() - due) * 1000)
        else:
            times.failed += 1
        if fresh:
            line.close()
        else:
            free.append(line)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds / every_s)):
            due = begun + number * every_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(due))
    for line in free:
        line.close()
    return times


async def ask_at_once(port: int, requests: Sequence[bytes], lines: Sequence[Line] = ()) -> float:
    """Seconds until each request has its answer, over these connections or as many new ones.

    Raises:
        RuntimeError: one was not answered 200.
    """
    begun = time.perf_counter()

    async def ask(number: int) -> int:
        line = lines[number] if lines else await Line.open(port)
        status = await line.ask(requests[number])
        if not lines:
            line.close()
        return status

    statuses = await asyncio.gather(*map(ask, range(len(requests))))
    if set(statuses) != {200}:
        raise RuntimeError(f"not all were answered: {sorted(set(statuses))}")
    return time.perf_counter() - begun
