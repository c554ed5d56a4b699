"""Orders and cursors of listReservations."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.reading import PATH, SORT_KEYS, T0, Lists, instant


@pytest.fixture
def lists(running: Any) -> Lists:
    return Lists(running)


@pytest.mark.parametrize("by", SORT_KEYS)
def test_every_order_in_both_directions(lists: Lists, by: str) -> None:
    chance = random.Random(by)
    amounts = [9, 10, 100, 2**53, 2**53 + 1, 2**63 - 1, 0]
    for place in range(30):
        lists.put(
            T0 + chance.randrange(20),
            scope=chance.choice(["", "agent:a", "agent:b", "workspace:w/agent:a"]),
            estimate_amount=str(chance.choice(amounts)),
            expires_at=str(T0 + chance.randrange(20)),
            state=chance.choice(["ACTIVE", "EXPIRED", "RELEASED"]),
            released_at=str(T0 + place),
        )

    def value(row: dict[str, Any]) -> Any:
        if by == "tenant":
            return row["subject"].get("tenant", "")
        return row["reserved"]["amount"] if by == "reserved" else row[by]

    for direction in ("asc", "desc", ""):
        params = {"sort_by": by} | ({"sort_dir": direction} if direction else {})
        rows = lists.reader.rows(PATH, "reservations", limit=7, **params)
        assert len(rows) == 30
        values = [value(row) for row in rows]
        assert values == sorted(values, reverse=direction != "asc"), direction
        again = lists.reader.rows(PATH, "reservations", limit=200, **params)
        assert [row["reservation_id"] for row in again] == [row["reservation_id"] for row in rows]


def test_a_sorted_cursor_is_bound_to_order_and_filters(lists: Lists) -> None:
    ids = [lists.put(T0 + place, scope="agent:a") for place in range(5)]
    asked = {"sort_by": "expires_at_ms", "sort_dir": "asc", "agent": "a", "from": instant(T0)}
    page = lists.page(limit=2, **asked)
    cursor = page["next_cursor"]
    for change in (
        {"sort_by": "reserved"},
        {"sort_dir": "desc"},
        {"agent": "b"},
        {"agent": ""},
        {"workspace": "w"},
        {"status": "ACTIVE"},
        {"from": instant(T0 - 1)},
        {"to": instant(T0 + 99)},
        {"expires_from": instant(T0)},
        {"finalized_to": instant(T0)},
        {"idempotency_key": "k"},
    ):
        assert lists.refused(400, cursor=cursor, **{**asked, **change}) == "INVALID_REQUEST"
    same = {**asked, "agent": "A", "to": " ", "from": instant(T0).replace("Z", "+00:00")}
    for params in (asked, same, {**asked, "include": "metadata", "tenant": lists.name}):
        rest = lists.page(limit=3, cursor=cursor, **params)
        assert [row["reservation_id"] for row in rest["reservations"]] == ids[2:]
    # The cursor holds the order, so that it need not be repeated.
    rest = lists.page(cursor=cursor, agent="a", **{"from": instant(T0)})
    assert [row["reservation_id"] for row in rest["reservations"]] == ids[2:]


def test_other_cursors_are_refused(lists: Lists, running: Any) -> None:
    for place in range(3):
        lists.put(T0 + place)
    unsorted = lists.page(limit=1)["next_cursor"]
    sorted_one = lists.page(limit=1, sort_by="reserved")["next_cursor"]
    assert lists.refused(400, cursor=unsorted, sort_by="created_at_ms") == "INVALID_REQUEST"
    other = Lists(running)
    assert other.refused(400, cursor=sorted_one, sort_by="reserved") == "INVALID_REQUEST"
    junk = ["garbage", "0", "!!!", "é", "W10", "e30", "bnVsbA", unsorted[:-3], "[" * 5000]
    for cursor in junk:
        for params in ({}, {"sort_by": "created_at_ms"}, {"sort_by": "scope_path"}):
            assert lists.refused(400, cursor=cursor, **params) == "INVALID_REQUEST"
    assert len(lists.ids(cursor="")) == 3
    assert lists.reader.get("/v1/balances", agent="x", cursor=unsorted).status_code == 400
