"""Bytes to the server, and every answer that comes back before the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from support.wire import ANSWER_SECONDS, Answer, Wire

LAST = b"GET /actuator/health/liveness HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
"""Ends a connection that would go on, and shows that it does."""
_PAUSE_S = 0.02
"""Long enough for two pieces to arrive apart."""


async def talk(port: int, *pieces: bytes, half_close: bool = False) -> list[Answer]:
    """Send the pieces one after the other; the answers until the server closes."""
    wire = await Wire.open(port)
    answers = []
    try:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(_PAUSE_S)
            wire.send(piece)
        if half_close:
            wire.end_sending()
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                try:
                    answers.append(await wire.answer())
                except (asyncio.IncompleteReadError, ConnectionError):
                    return answers
    finally:
        wire.close()


async def talk_in_two(port: int, data: bytes, *, half_close: bool = False) -> list[list[Answer]]:
    """The same bytes in one segment, and cut in two at every place."""
    whole = await talk(port, data, half_close=half_close)
    cut = [
        talk(port, data[:place], data[place:], half_close=half_close)
        for place in range(1, len(data))
    ]
    return [whole, *await asyncio.gather(*cut)]


def statuses(answers: Sequence[Answer]) -> list[int]:
    return [answer.status for answer in answers]
