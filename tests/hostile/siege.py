"""Many strangers at once, for as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from . import garbage, half, huge, prying, slow
from .stranger import Reply, Target

Visit = Callable[[Target, Random], Coroutine[Any, Any, list[Reply]]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stranger.

    Attributes:
        visit: one connection of it (or one after the other): what it was told.
        statuses: what it may be told. It may also be told nothing.
    """

    visit: Visit
    statuses: frozenset[int]


def _kind(visit: Visit, *statuses: int) -> Kind:
    return Kind(visit, frozenset(statuses))


# On a machine that has more to do than it can, what is large may also be found too slow (408).
KINDS: Mapping[str, Kind] = {
    "silent": _kind(slow.silent, 408),
    "dripped-head": _kind(slow.dripped_head, 408),
    "dripped-body": _kind(slow.dripped_body, 401, 408),
    "unread": _kind(slow.unread, 200),
    "long-head": _kind(huge.long_head, 431, 408),
    "big-body": _kind(huge.big_body, 401, 413, 408),
    "chunk-extensions": _kind(huge.chunk_extensions, 400, 401, 431, 408),
    "junk-json": _kind(huge.junk_json, 400, 401, 408),
    "large-pages": _kind(huge.large_pages, 200),
    "half": _kind(half.half, 200, 400, 401),
    "half-closed": _kind(half.half_closed, 200, 401, 404),
    "noise": _kind(garbage.noise, 400, 408),
    "tls-hello": _kind(garbage.tls_hello, 400),
    "bad-chunks": _kind(garbage.bad_chunks, 400, 401),
    "upgrade": _kind(garbage.upgrade, 200, 400, 401),
    "hidden": _kind(garbage.hidden, 400, 401),
    "good-then-bad": _kind(garbage.good_then_bad, 200, 400, 401, 404),
    "mutated": _kind(garbage.mutated, 200, 400, 401, 404, 405, 408, 413, 431),
    "scanner": _kind(prying.scanner, 200, 400, 401, 404, 405),
    "wrong-key": _kind(prying.wrong_key, 401),
}


class Siege:
    """Keeps strangers coming.

    Args:
        crowd: how many of each kind there are at any time.
        pause_s: the longest rest of a stranger between two connections.
        told: called with each reply and the kind it went to.
    """

    def __init__(
        self,
        target: Target,
        crowd: Mapping[str, int],
        *,
        seed: int,
        pause_s: float = 0.5,
        told: Callable[[str, Reply], None] = lambda name, reply: None,
    ) -> None:
        self._target = target
        self._crowd = crowd
        self._seed = seed
        self._pause_s = pause_s
        self._told = told

    async def last(self, stop: Callable[[], bool]) -> None:
        """Go on until told to stop; those who are there see their visit through.

        Raises:
            ExceptionGroup: of TimeoutErrors, if somebody was neither answered nor sent away.
        """
        async with asyncio.TaskGroup() as group:
            for name, count in self._crowd.items():
                for number in range(count):
                    chance = Random(f"{self._seed} {name} {number}")
                    group.create_task(self._keep_visiting(name, chance, stop))

    async def _keep_visiting(self, name: str, chance: Random, stop: Callable[[], bool]) -> None:
        await asyncio.sleep(chance.uniform(0, self._pause_s))
        while not stop():
            try:
                replies = await KINDS[name].visit(self._target, chance)
            except ConnectionError:
                replies = []
            except TimeoutError as error:
                raise TimeoutError(f"{name}: neither an answer nor an end") from error
            for reply in replies:
                self._told(name, reply)
            await asyncio.sleep(chance.uniform(0, self._pause_s))
