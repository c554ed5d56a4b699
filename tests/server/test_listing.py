"""Rows and pages of listReservations, over HTTP on records in the store, and their cost."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.reading import (
    DAY_MS,
    SORT_KEYS,
    T0,
    CommandCount,
    Lists,
    instant,
)


@pytest.fixture
def lists(running: Any) -> Lists:
    return Lists(running)


# -- rows ----------------------------------------------------------------------------------------


def test_rows_say_what_is_stored(lists: Lists) -> None:
    subject = {"tenant": lists.name, "agent": "Bot-1", "dimensions": {"cost_center": "7"}}
    nulls = {"workspace": None, "app": None}
    metadata = {"a": [], "b": {}, "c": None, "d": 0.5, "e": 2**63 - 1, "f": {"g": None}}
    done = lists.put(
        T0,
        scope="agent:bot-1",
        subject_json=json.dumps({**subject, **nulls}),
        action_json=json.dumps({"kind": "k", "name": "n", "tags": None}),
        state="COMMITTED",
        charged_amount="7",
        committed_at=str(T0 + 5),
        metadata_json=json.dumps(metadata),
        committed_metadata_json=json.dumps({"x": 1}),
        estimate_amount=str(2**63 - 1),
    )
    (row,) = lists.page()["reservations"]
    expected = {
        "reservation_id": done,
        "status": "COMMITTED",
        "idempotency_key": f"key-{done}",
        "subject": subject,
        "action": {"kind": "k", "name": "n"},
        "reserved": {"unit": "TOKENS", "amount": 2**63 - 1},
        "committed": {"unit": "TOKENS", "amount": 7},
        "created_at_ms": T0,
        "expires_at_ms": T0 + 60_000,
        "finalized_at_ms": T0 + 5,
        "scope_path": f"tenant:{lists.name}/agent:bot-1",
        "affected_scopes": [f"tenant:{lists.name}", f"tenant:{lists.name}/agent:bot-1"],
    }
    assert row == expected
    detail = lists.one(done)
    assert detail.status_code == 200
    maps = {"metadata": metadata, "committed_metadata": {"x": 1}}
    assert detail.json() == {**expected, **maps}
    (row,) = lists.page(include="foo,, metadata ,")["reservations"]
    assert row == {**expected, "metadata": metadata}
    (row,) = lists.page(include="metadata,committed_metadata,evidence")["reservations"]
    assert row == {**expected, **maps}
    assert lists.page(include="")["reservations"] == [expected]


def test_only_ends_that_are_final_show_as_such(lists: Lists) -> None:
    lists.put(T0)
    lists.put(T0 + 1, state="EXPIRED", expired_at=str(T0 + 9))
    lists.put(T0 + 2, state="RELEASED", released_at=str(T0 + 9))
    released, expired, active = lists.page()["reservations"]
    assert released["finalized_at_ms"] == T0 + 9
    assert not {"committed", "finalized_at_ms"} & (active.keys() | expired.keys())
    assert "committed" not in released


def test_evidence_is_shown_by_artifact(lists: Lists) -> None:
    def link(artifact: str, digit: str) -> dict[str, str]:
        return {
            f"{artifact}_evidence_id": digit * 64,
            f"{artifact}_evidence_url": f"https://cycles.example/v1/evidence/{digit * 64}",
        }

    done = lists.put(
        state="COMMITTED",
        charged_amount="1",
        committed_at="1",
        **link("reserve", "a"),
        **link("commit", "b"),
        release_evidence_id="c" * 64,
    )
    evidence = lists.one(done).json()["evidence"]
    assert set(evidence) == {"reserve", "commit"}
    assert evidence["commit"]["evidence_id"] == "b" * 64
    assert lists.page(include="evidence")["reservations"][0]["evidence"] == evidence
    assert "evidence" not in lists.page()["reservations"][0]


def test_what_cannot_be_read_hides_itself_only(lists: Lists) -> None:
    good = lists.put(T0)
    lists.put(T0 + 1, subject_json="{")
    for amount in ("many", "", "-1", str(2**63), "9" * 40):
        lists.put(T0 + 2, estimate_amount=amount)
    lists.put(T0 + 2, expires_at="9" * 40)
    lists.put(T0 + 2, affected_scopes="{}")
    lists.put(T0 + 3, state="LOST")
    taken = lists.put(T0 + 4)
    lists.redis.hset(lists.names.reservation(taken), "tenant", "someone-else")
    gone = lists.put(T0 + 5)
    lists.redis.delete(lists.names.reservation(gone))
    wrong = lists.put(T0 + 6)
    lists.redis.delete(lists.names.reservation(wrong))
    lists.redis.set(lists.names.reservation(wrong), "x", px=DAY_MS)
    nobody = lists.put(T0 + 7)
    lists.redis.hdel(lists.names.reservation(nobody), "tenant")
    assert lists.ids() == [good]
    for by in SORT_KEYS:
        assert lists.ids(sort_by=by, limit=2) == [good], by


# -- pages ---------------------------------------------------------------------------------------


def test_fifty_rows_unless_asked_otherwise(lists: Lists) -> None:
    ids = [lists.put(T0 + place) for place in range(51)]
    assert len(lists.page()["reservations"]) == 50
    assert lists.ids() == ids[::-1]
    assert len(lists.page(limit=200)["reservations"]) == 51
    assert "next_cursor" not in lists.page(limit=51)


@pytest.mark.parametrize("params", [{}, {"sort_by": "created_at_ms"}, {"sort_dir": "asc"}])
@pytest.mark.parametrize("limit", [1, 7, 40])
def test_ties_at_one_millisecond(lists: Lists, params: dict[str, str], limit: int) -> None:
    ids = {lists.put(T0 + place // 40) for place in range(120)}
    seen = lists.ids(limit=limit, **params)
    assert len(seen) == len(ids)
    assert set(seen) == ids


def test_a_crowded_millisecond(lists: Lists) -> None:
    ids = {lists.put(T0) for _ in range(1_000)}
    seen = lists.ids(limit=200)
    assert len(seen) == len(ids)
    assert set(seen) == ids


@pytest.mark.parametrize("by", ["", *SORT_KEYS])
@pytest.mark.parametrize("direction", ["", "asc", "desc"])
def test_rows_come_and_go_between_pages(lists: Lists, by: str, direction: str) -> None:
    params = {"sort_by": by} if by else {}
    if direction:
        params["sort_dir"] = direction
    chance = random.Random(f"{by}{direction}")

    def put() -> str:
        return lists.put(
            T0 + chance.randrange(9),
            scope=f"agent:bot-{chance.randrange(3)}",
            estimate_amount=str(chance.randrange(4)),
            expires_at=str(T0 + chance.randrange(4)),
            state=chance.choice(["ACTIVE", "EXPIRED"]),
        )

    lasting = {put() for _ in range(40)}
    passing = [put() for _ in range(40)]
    seen: list[str] = []
    page = lists.page(limit=6, **params)
    seen += [row["reservation_id"] for row in page["reservations"]]
    while "next_cursor" in page:
        for _ in range(3):
            if passing:
                lists.remove(passing.pop(chance.randrange(len(passing))))
        put()
        page = lists.page(limit=6, cursor=page["next_cursor"], **params)
        seen += [row["reservation_id"] for row in page["reservations"]]
    assert len(seen) == len(set(seen))
    assert lasting <= set(seen)


def test_the_cursor_outlives_its_row(lists: Lists) -> None:
    ids = [lists.put(T0 + place) for place in range(6)]
    for params in ({}, {"sort_by": "created_at_ms"}, {"sort_by": "expires_at_ms"}):
        page = lists.page(limit=2, **params)
        last = page["reservations"][-1]["reservation_id"]
        assert last == ids[-2]
        lists.remove(last)
        rest = lists.ids(cursor=page["next_cursor"], **params)
        assert rest == ids[:-2][::-1]
        ids[-2] = lists.put(T0 + len(ids) - 2)


def test_a_rare_match_gives_short_pages(lists: Lists) -> None:
    lists.put_many(range(T0, T0 + 5_600))
    rare = lists.put(T0 - 1, scope="agent:rare")
    first = lists.page(agent="rare")
    assert first["reservations"] == []
    assert first["has_more"]
    assert lists.ids(agent="rare") == [rare]
    # A sorted page is full wherever it can be.
    for by in ("created_at_ms", "reserved"):
        sorted_page = lists.page(agent="rare", sort_by=by)
        assert [row["reservation_id"] for row in sorted_page["reservations"]] == [rare]
        assert "next_cursor" not in sorted_page


# -- cost ----------------------------------------------------------------------------------------


@pytest.fixture
def quiet(start: Callable[..., Any]) -> Lists:
    """A tenant on a server of its own, where no sweep reads beside it."""
    lists = Lists(start(CYCLES_EXPIRY_INTERVAL_MS="3600000"))
    lists.put_many([T0])
    lists.page()  # from here on the key is known
    return lists


def test_a_page_costs_the_page(quiet: Lists) -> None:
    ways: tuple[dict[str, str], ...] = (
        {},
        {"sort_by": "created_at_ms"},
        {"sort_dir": "asc"},
        {"from": instant(T0)},
    )

    def cost(params: dict[str, str]) -> dict[str, int]:
        count = CommandCount(quiet.redis)
        page = quiet.page(limit=20, **params)
        quiet.page(limit=20, cursor=page["next_cursor"], **params)
        return count.spent()

    quiet.put_many(range(T0, T0 + 60))
    few = [cost(params) for params in ways]
    quiet.put_many(range(T0, T0 + 3_000))
    assert [cost(params) for params in ways] == few
    for spent in few:
        assert spent["zrange"] == 2
        assert spent["hmget"] <= 2 * (20 + 1 + 20)


def test_a_key_costs_one_row(quiet: Lists) -> None:
    quiet.put_many(range(T0, T0 + 500))
    mine = quiet.put(T0, idempotency_key="k")
    quiet.redis.set(quiet.names.idempotency("reserve", "k"), mine, px=DAY_MS)
    count = CommandCount(quiet.redis)
    assert quiet.ids(idempotency_key="k") == [mine]
    spent = count.spent()
    assert "zrange" not in spent
    assert spent["hmget"] == 1


def test_a_long_walk_takes_bounded_steps(quiet: Lists) -> None:
    quiet.put_many(range(T0, T0 + 999))
    count = CommandCount(quiet.redis)
    quiet.page(limit=10, sort_by="expires_at_ms")
    spent = count.spent()
    assert 4 <= spent["zrange"] <= 6
    assert spent["hmget"] == 1_010
    assert not {"keys", "scan", "smembers", "hgetall", "evalsha"} & spent.keys()
