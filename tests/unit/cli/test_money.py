"""Amounts as people write them on the command line."""

from __future__ import annotations

import pytest

from cycles_server.cli.money import parse_amount, show_amount


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        ("100000000:USD_MICROCENTS", 100_000_000, "USD_MICROCENTS"),
        ("5000:TOKENS", 5000, "TOKENS"),
        ("$1", 100_000_000, "USD_MICROCENTS"),
        ("1usd", 100_000_000, "USD_MICROCENTS"),
        ("0.5 USD", 50_000_000, "USD_MICROCENTS"),
        ("$0.00000001", 1, "USD_MICROCENTS"),
        ("$1:USD_MICROCENTS", 100_000_000, "USD_MICROCENTS"),
        ("$90000000000.12345678", 9_000_000_000_012_345_678, "USD_MICROCENTS"),
    ],
)
def test_read(written: str, amount: int, unit: str) -> None:
    assert parse_amount(written) == (amount, unit)


@pytest.mark.parametrize(
    "written",
    [
        *("", "1", "1:", "1:USD", "-1:TOKENS", "1.5:TOKENS", "1_0:TOKENS", "٣:TOKENS"),
        *("$", "$-1", "$1:TOKENS", "1e5usd", "$0.000000001"),
    ],
)
def test_refused(written: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_amount(written)


def test_shown() -> None:
    assert show_amount(100_000_000, "USD_MICROCENTS") == "$1.00"
    assert show_amount(-50_042_000, "USD_MICROCENTS") == "-$0.50042"
    assert show_amount(5000, "TOKENS") == "5,000 TOKENS"
