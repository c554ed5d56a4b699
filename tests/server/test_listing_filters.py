"""Filters of listReservations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from support.reading import DAY_MS, T0, Lists, instant

from cycles_server.refusal import Refusal
from cycles_server.reservations.filters import FILTERS, Criterion
from cycles_server.reservations.listing import list_page, read_list_query
from cycles_server.store.keys import Keys
from cycles_server.store.store import Store


@pytest.fixture
def lists(running: Any) -> Lists:
    return Lists(running)


def test_a_subject_filter_is_one_segment_or_blank(lists: Lists) -> None:
    row = lists.put(T0, scope="workspace:dev/agent:bot-1")
    assert lists.ids(workspace="dev/agent:bot-1") == []
    assert lists.ids(agent=" ", workspace="", app="", workflow="", toolset="") == [row]


def test_windows(lists: Lists) -> None:
    rows = [
        lists.put(T0 + 10, expires_at=str(T0 + 500)),
        lists.put(
            T0 + 20,
            expires_at=str(T0 + 400),
            state="COMMITTED",
            charged_amount="1",
            committed_at=str(T0 + 100),
            released_at=str(T0 + 1),
        ),
        lists.put(T0 + 30, state="RELEASED", released_at=str(T0 + 200)),
        lists.put(T0 + 40, state="EXPIRED", expired_at=str(T0 + 300)),
        lists.put(T0 + 50, state="RELEASED"),
    ]

    def listed(**windows: int | str) -> list[int]:
        asked = {
            name.rstrip("_"): instant(value) if isinstance(value, int) else value
            for name, value in windows.items()
        }
        unsorted = lists.ids(**asked)
        for by in ("created_at_ms", "reserved"):
            assert set(lists.ids(sort_by=by, **asked)) == set(unsorted)
        return sorted(rows.index(row) for row in unsorted)

    assert listed(from_=T0 + 20) == [1, 2, 3, 4]
    assert listed(to=T0 + 20) == [0, 1]
    assert listed(from_=T0 + 20, to=T0 + 20) == [1]
    assert listed(expires_from=T0 + 400, expires_to=T0 + 500) == [0, 1]
    assert listed(finalized_from=T0) == [1, 2]
    assert listed(finalized_to=T0 + 100) == [1]
    assert listed(finalized_from=T0 + 101, finalized_to=T0 + 200) == [2]
    assert listed(finalized_from=T0, to=T0 + 20, expires_to=T0 + 400) == [1]
    assert listed(from_="", to=" ", expires_from="", finalized_to="") == [0, 1, 2, 3, 4]
    below = "2025-10-09T08:53:20.0200001Z"  # T0 + 20 and a little more
    assert listed(from_=below) == [2, 3, 4]
    assert listed(to=below) == [0, 1]
    for window in ("", "expires_", "finalized_"):
        late_first = {f"{window}from": instant(T0 + 1), f"{window}to": instant(T0)}
        assert lists.refused(400, **late_first) == "INVALID_REQUEST"
        assert lists.refused(400, **{f"{window}to": "soon"}) == "INVALID_REQUEST"


def test_a_key_names_its_reservation_while_its_record_lives(lists: Lists) -> None:
    now = int(time.time() * 1000)
    mine = lists.put(now, idempotency_key="k 1")
    for place in range(300):
        lists.put(now + place)
    lists.redis.set(lists.names.idempotency("reserve", "k 1"), mine, px=DAY_MS)
    page = lists.page(idempotency_key="k 1")
    assert [row["reservation_id"] for row in page["reservations"]] == [mine]
    assert "next_cursor" not in page
    assert lists.ids(idempotency_key="k 1", status="ACTIVE", sort_by="reserved") == [mine]
    assert lists.ids(idempotency_key="k 1", status="EXPIRED") == []
    assert lists.ids(idempotency_key="k 1", to=instant(now - 1)) == []
    assert lists.ids(idempotency_key="k 2") == []


def test_a_key_is_found_among_old_rows_without_its_record(lists: Lists) -> None:
    now = int(time.time() * 1000)
    older = lists.put(now - 3 * DAY_MS, idempotency_key="k")
    old = lists.put(now - 2 * DAY_MS, idempotency_key="k")
    lists.put(now - DAY_MS // 2, idempotency_key="k")  # its record would still be there
    lists.redis.set(lists.names.idempotency("reserve", "k"), '{"decision":"ALLOW"}', px=DAY_MS)
    assert lists.ids(idempotency_key="k") == [old]
    lists.redis.delete(lists.names.idempotency("reserve", "k"))
    assert lists.ids(idempotency_key="k") == [old]
    assert lists.ids(idempotency_key="k", to=instant(now - 3 * DAY_MS)) == [older]
    assert lists.refused(400, idempotency_key="x" * 257) == "INVALID_REQUEST"


def test_a_filter_is_one_declaration(
    lists: Lists, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter of a field that no other part of the list reads, in every order."""

    def policy(query: Mapping[str, Any]) -> Criterion | None:
        asked = query.get("overage_policy", "").encode()
        if not asked:
            return None
        return Criterion(
            asked.decode(), ("overage_policy",), lambda row: row["overage_policy"] == asked
        )

    monkeypatch.setitem(FILTERS, "overage_policy", policy)
    rows = [lists.put(T0 + place, overage_policy=f"P{place % 2}") for place in range(6)]

    async def ids(**query: Any) -> tuple[list[str], str]:
        store = Store(running.store.url, keys=Keys(), timeout_ms=2_000)
        try:
            page = await list_page(store, lists.name, read_list_query(query, ()), 1_000_000)
        finally:
            await store.close()
        return [row["reservation_id"] for row in page["reservations"]], page.get("next_cursor", "")

    assert asyncio.run(ids())[0] == rows[::-1]
    for order in ({}, {"sort_by": "created_at_ms"}, {"sort_by": "expires_at_ms"}):
        asked = {"overage_policy": "P1", "limit": 2, **order}
        first, cursor = asyncio.run(ids(**asked))
        assert first == [rows[5], rows[3]]
        assert asyncio.run(ids(**asked, cursor=cursor)) == ([rows[1]], "")
        if order:
            with pytest.raises(Refusal, match="belongs to a list with another"):
                asyncio.run(ids(**{**asked, "overage_policy": "P0"}, cursor=cursor))
