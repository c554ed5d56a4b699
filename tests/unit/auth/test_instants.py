"""Instants as they are stored: RFC 3339, whatever the year, and exact to the millisecond."""

from __future__ import annotations

import pytest

from cycles_server.auth.records import instant_ms, iso_instant


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00.000Z",
        "0060-01-02T06:45:48.128Z",
        "0999-12-31T23:59:59.999Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00.000Z",
        "2026-04-10T12:00:00.123Z",
        "9999-12-31T23:59:59.999Z",
    ],
)
def test_there_and_back(text: str) -> None:
    assert iso_instant(instant_ms(text)) == text


@pytest.mark.parametrize("ms", [instant_ms("0001-01-01T00:00:00Z") - 1, 253_402_300_800_000])
def test_beyond_the_years_that_have_four_digits(ms: int) -> None:
    with pytest.raises(OverflowError):
        iso_instant(ms)
