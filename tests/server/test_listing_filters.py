"""Filters of listReservations."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.reading import DAY_MS, T0, Lists, instant


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
