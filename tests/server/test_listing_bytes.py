"""Pages of reservations with much in them: they end by bytes, and nothing is lost or doubled."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.reading import DAY_MS, SORT_KEYS, T0, CommandCount, Lists, instant
from support.running import Running, StartServer

PAGE_BYTES = 20_000


@pytest.fixture(scope="module")
def small_pages(start_once: StartServer) -> Running:
    return start_once(CYCLES_MAX_PAGE_BYTES=str(PAGE_BYTES), CYCLES_EXPIRY_INTERVAL_MS="3600000")


@pytest.fixture(scope="module")
def lists(small_pages: Running) -> Lists:
    """Eighty reservations with up to 9,000 bytes of metadata each, before and after a commit."""
    lists = Lists(small_pages)
    chance = random.Random(1)

    def text() -> str:
        return json.dumps({"x": "ü" * chance.choice([0, 1, 300, 4_400])}, ensure_ascii=False)

    for place in range(80):
        done = chance.random() < 0.5
        final = {"charged_amount": "1", "committed_at": str(T0 + place)}
        lists.put(
            T0 + place // 7,
            scope=f"agent:a{place % 3}",
            state="COMMITTED" if done else "ACTIVE",
            estimate_amount=str(place % 5),
            expires_at=str(T0 + place % 11),
            metadata_json=text(),
            **(final | {"committed_metadata_json": text()} if done else {}),
        )
    return lists


def pages(lists: Lists, **params: Any) -> list[list[dict[str, Any]]]:
    page = lists.page(**params)
    turned = [page["reservations"]]
    while "next_cursor" in page:
        page = lists.page(**{**params, "cursor": page["next_cursor"]})
        turned.append(page["reservations"])
    return turned


@pytest.mark.parametrize("by", ["", *SORT_KEYS])
@pytest.mark.parametrize("direction", ["", "asc"])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"agent": "a1"},
        {"status": "COMMITTED", "from": instant(T0 + 1)},
        {"expires_to": instant(T0 + 6), "agent": "a2"},
        {"finalized_from": instant(T0 + 20), "to": instant(T0 + DAY_MS)},
    ],
)
def test_every_row_once_whatever_is_asked(
    lists: Lists, by: str, direction: str, filters: dict[str, str]
) -> None:
    params: dict[str, Any] = {**filters, "limit": 30}
    if by:
        params["sort_by"] = by
    if direction:
        params["sort_dir"] = direction
    plain = [row for page in pages(lists, **params) for row in page]
    assert len(plain) > 5
    turned = pages(lists, include="metadata,committed_metadata", **params)
    full = [row for page in turned for row in page]
    assert [row["reservation_id"] for row in full] == [row["reservation_id"] for row in plain]
    for row in full:
        assert "metadata" in row
        assert ("committed_metadata" in row) == (row["status"] == "COMMITTED")
    assert all(turned)
    assert len(turned) > len(full) // 30 + 1
    for page in turned:
        heavy = [
            len(json.dumps(row[name], ensure_ascii=False).encode())
            for row in page
            for name in ("metadata", "committed_metadata")
            if name in row
        ]
        assert sum(heavy) <= PAGE_BYTES


def test_a_row_that_is_too_long_has_a_page_of_its_own(small_pages: Running) -> None:
    tenant = Lists(small_pages)
    sizes = [10, PAGE_BYTES * 3, PAGE_BYTES * 3, 10, 10, PAGE_BYTES + 1]
    ids = [
        tenant.put(T0 + place, metadata_json=json.dumps({"x": "x" * size}))
        for place, size in enumerate(sizes)
    ]
    for by in ("", "created_at_ms", "expires_at_ms"):
        params = {"include": "metadata", "limit": 5} | ({"sort_by": by} if by else {})
        turned = pages(tenant, **params)
        shown = [[ids.index(row["reservation_id"]) for row in page] for page in turned]
        assert shown == [[5], [4, 3], [2], [1], [0]]
        # Without the maps they all fit.
        del params["include"]
        assert [len(page) for page in pages(tenant, **params)] == [5, 1]


def test_only_what_is_shown_is_read(small_pages: Running) -> None:
    tenant = Lists(small_pages)
    for place in range(30):
        tenant.put(T0 + place, metadata_json=json.dumps({"x": "x" * 9_000}))
    tenant.page()
    count = CommandCount(tenant.redis)
    before = tenant.redis.info("stats")["total_net_output_bytes"]
    page = tenant.page(include="metadata", limit=30)
    assert len(page["reservations"]) == 2
    assert tenant.redis.info("stats")["total_net_output_bytes"] - before < 2 * PAGE_BYTES + 40_000
    spent = count.spent()
    assert spent["hstrlen"] == 30
    assert spent["hmget"] <= 30 + 30 + 2  # to find the rows, and to show them
    # Rows without metadata are not asked for it.
    tenant = Lists(small_pages)
    tenant.put_many(range(T0, T0 + 30))
    tenant.page()
    count = CommandCount(tenant.redis)
    assert len(tenant.page(include="metadata", limit=30)["reservations"]) == 30
    assert count.spent()["hmget"] <= 30 + 30


def test_rows_without_maps_fill_a_page_too(small_pages: Running) -> None:
    """Subject and action have a size as well."""
    tenant = Lists(small_pages)
    dimensions = {str(place): "d" * 250 for place in range(16)}
    subject = json.dumps({"tenant": tenant.name, "dimensions": dimensions})
    ids = [tenant.put(T0 + place, subject_json=subject) for place in range(20)]
    turned = pages(tenant, limit=50)
    assert [row["reservation_id"] for page in turned for row in page] == ids[::-1]
    assert all(1 < len(page) < 6 for page in turned)


def test_a_page_by_default_holds_a_megabyte(running: Running) -> None:
    """Another tenant's reserves go on while all of a tenant's heavy pages are turned."""
    heavy, other = Lists(running), running.tenant()
    heavy.tenant.budget()
    other.budget()
    sent = {"x": "x" * 1_000_000}
    ids = [heavy.tenant.reserved(metadata=sent) for _ in range(3)]
    text = json.dumps(sent)
    ids += [heavy.put(T0 - place, metadata_json=text) for place in range(60)]
    turning = threading.Event()
    reserved: list[str] = []

    def reserve() -> None:
        while not turning.is_set():
            reserved.append(other.reserved(1))

    with ThreadPoolExecutor(1) as aside:
        reserves = aside.submit(reserve)
        try:
            for by in ("", "expires_at_ms"):
                params = {"include": "metadata", "limit": 200} | ({"sort_by": by} if by else {})
                turned = pages(heavy, **params)
                assert all(len(page) == 1 for page in turned)
                rows = [page[0] for page in turned]
                assert sorted(row["reservation_id"] for row in rows) == sorted(ids)
                assert all(row["metadata"] == sent for row in rows)
        finally:
            turning.set()
        reserves.result()
    assert len(set(reserved)) == len(reserved) > 0
    assert other.amounts()["reserved"] == len(reserved)
    for row_id in ids:
        heavy.remove(row_id)
