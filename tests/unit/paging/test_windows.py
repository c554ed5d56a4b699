"""Date-times and windows of a list's query."""

from __future__ import annotations

from datetime import datetime

import pytest

from cycles_server.paging.windows import Window, read_moment, read_window
from cycles_server.refusal import Refusal


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:00:00Z",
        "2026-04-10T12:00:00.123Z",
        "2026-04-10t12:00:00z",
        "2026-04-10T12:00:00+05:30",
        "2026-04-10T12:00:00-23:59",
        "1969-12-31T23:59:59.999Z",
        "2024-02-29T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_reads_what_python_reads(text: str) -> None:
    expected = datetime.fromisoformat(text.upper())
    assert read_moment(text).ms == round(expected.timestamp() * 1000)


def test_reads_what_python_cannot() -> None:
    assert read_moment("2016-12-31T23:59:60Z").ms == read_moment("2017-01-01T00:00:00Z").ms
    assert read_moment("2017-01-01T05:29:60+05:30").ms == read_moment("2017-01-01T00:00:00Z").ms
    assert read_moment("0000-12-31T00:00:00Z").ms == (
        read_moment("0001-01-01T00:00:00Z").ms - 86_400_000
    )
    assert read_moment("2026-04-10T12:00:00.1239999999999Z")[1] == "9999999999"


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "1744286400000",
        "2026-04-10",
        "2026-04-10T12:00Z",
        "2026-04-10T12:00:00",
        "2026-04-10 12:00:00Z",
        "2026-04-10T12:00:00 01:00",
        "2026-04-10T12:00:00.Z",
        "2026-04-10T12:00:00,5Z",
        "2026-04-10T12:00:00+0100",
        "2026-04-10T12:00:00+24:00",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-04-10T24:00:00Z",
        "2026-04-10T12:60:00Z",
        "2026-04-10T12:00:60Z",
        "2026-04-10T12:00:00Z\n0",
        "٢026-04-10T12:00:00Z",
        "20260410T120000Z",
        "2026-W15-5T00:00:00Z",
    ],
)
def test_refuses_the_rest(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_window({"from": text}, "from", "to")
    assert refused.value.code == "INVALID_REQUEST"
    assert "from" in refused.value.message


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_blank_is_not_given(blank: str) -> None:
    assert read_window({"from": blank, "to": blank}, "from", "to").is_open


def test_bounds_round_inwards() -> None:
    base = read_moment("2026-04-10T12:00:00.123Z").ms
    finer = "2026-04-10T12:00:00.1230001Z"
    assert read_window({"from": finer}, "from", "to") == Window(base + 1, None)
    assert read_window({"to": finer}, "from", "to") == Window(None, base)
    exact = "2026-04-10T12:00:00.123000Z"
    assert read_window({"from": exact, "to": exact}, "from", "to") == Window(base, base)


def test_order_is_that_of_the_instants() -> None:
    early, late = "2026-04-10T12:00:00.12301Z", "2026-04-10T12:00:00.1231Z"
    # In order, though no millisecond lies between them: empty, but no mistake.
    window = read_window({"from": early, "to": late}, "from", "to")
    assert window.lower is not None and window.upper is not None
    assert window.lower > window.upper
    with pytest.raises(Refusal):
        read_window({"from": late, "to": early}, "from", "to")
    read_window({"from": "2026-04-10T12:00:00Z", "to": "2026-04-10T13:00:00+01:00"}, "from", "to")


def test_a_row_without_the_time_is_outside_every_bound() -> None:
    assert Window().admits(None)
    assert not Window(lower=0).admits(None)
    assert not Window(upper=0).admits(None)
    assert Window(1, 3).admits(1)
    assert Window(1, 3).admits(3)
    assert not Window(1, 3).admits(4)
