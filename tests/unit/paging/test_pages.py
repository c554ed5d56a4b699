"""Pages of a walk: as many rows as asked for, where they end, and how much they look at."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from cycles_server.paging.cursors import Cursor, Place
from cycles_server.paging.pages import ByteLimit, page_along, page_body, ranked_page
from cycles_server.paging.walks import STEP

Found = list[tuple[Place, str]]


class Places:
    """A walk over places at hand; notes how many were asked for in each step."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = list(places)
        self.asked: list[int] = []

    async def step(self, count: int) -> Sequence[Place]:
        self.asked.append(count)
        batch, self._places = self._places[:count], self._places[count:]
        return batch


def numbered(number: int) -> list[Place]:
    return [(n, f"id-{n}") for n in range(number)]


async def every(places: Sequence[Place]) -> Found:
    return [(place, f"row of {place[1]}") for place in places]


async def even(places: Sequence[Place]) -> Found:
    return await every([place for place in places if place[0] % 2 == 0])


async def none(_: Sequence[Place]) -> Found:
    return []


@pytest.mark.parametrize(("number", "more"), [(0, False), (3, False), (4, True), (9, True)])
def test_a_page_ends_where_there_is_more(number: int, more: bool) -> None:
    for step in (1, 2, 10):
        page = asyncio.run(page_along(Places(numbered(number)), every, 3, step=step))
        assert [place for place, _ in page.rows] == numbered(number)[:3]
        assert page.end == (numbered(number)[2] if more else None)


def test_pages_follow_on_each_other() -> None:
    places, seen = numbered(50), []
    rest: Sequence[Place] = places
    while True:
        page = asyncio.run(page_along(Places(rest), even, 4, step=3))
        seen += [place for place, _ in page.rows]
        if page.end is None:
            break
        rest = [place for place in places if place > page.end]
    assert seen == places[::2]


def test_steps_grow_to_a_bound() -> None:
    walk = Places(numbered(1000))
    page = asyncio.run(page_along(walk, none, 3, step=100))
    assert (page.rows, page.end) == ([], None)
    assert walk.asked[:3] == [100, 200, STEP]
    assert set(walk.asked[3:]) == {STEP}


def test_a_page_looks_at_no_more_than_it_may() -> None:
    """It is short or empty then, and goes on behind the last place it looked at."""
    page = asyncio.run(page_along(Places(numbered(100)), none, 3, step=10, most_examined=25))
    assert (page.rows, page.end) == ([], (29, "id-29"))
    page = asyncio.run(page_along(Places(numbered(100)), even, 20, step=10, most_examined=10))
    assert [place for place, _ in page.rows] == numbered(10)[::2]
    assert page.end == (9, "id-9")


@pytest.mark.parametrize("descending", [False, True])
def test_pages_in_another_order_than_the_walks(descending: bool) -> None:
    draw = random.Random(7)
    places = [(draw.randrange(40), f"id-{n}") for n in range(700)]  # many of one rank
    order, seen, after = sorted(places, reverse=descending), [], None
    for _ in range(100):
        page = asyncio.run(
            ranked_page(Places(places), every, 90, descending=descending, after=after)
        )
        assert len(page.rows) <= 90
        seen += [place for place, _ in page.rows]
        after = page.end
        if after is None:
            break
        assert after == page.rows[-1][0]
    assert seen == order


def test_a_full_last_page_has_no_end() -> None:
    page = asyncio.run(ranked_page(Places(numbered(4)), every, 4, descending=False, after=None))
    assert (len(page.rows), page.end) == (4, None)


def test_bytes_of_a_page() -> None:
    limit = ByteLimit(10)
    assert [limit.admits(size) for size in (4, 6, 1, 0)] == [True, True, False, True]
    limit = ByteLimit(10)
    assert [limit.admits(size) for size in (11, 0)] == [True, False]
    limit = ByteLimit(10)
    assert [limit.admits(size) for size in (4, 7, 6)] == [True, False, True]


def test_what_an_answer_says_of_a_page() -> None:
    assert page_body("rows", [1], None) == {"rows": [1], "has_more": False}
    cursor = Cursor("things", (5, "id-5"))
    expected = {"rows": [], "next_cursor": cursor.text(), "has_more": True}
    assert page_body("rows", [], cursor) == expected
