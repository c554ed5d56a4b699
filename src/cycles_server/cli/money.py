"""Amounts as people write them on a command line."""

from __future__ import annotations

import re
from decimal import Decimal

from cycles_server.scopes import UNITS

DOLLAR_UNIT = "USD_MICROCENTS"
MICROCENTS_PER_DOLLAR = 10**8

_DOLLARS = re.compile(r"(?:\$([0-9]+(?:\.[0-9]+)?)|([0-9]+(?:\.[0-9]+)?) ?usd)", re.IGNORECASE)
_WHOLE = re.compile(r"[0-9]+")


def parse_amount(text: str) -> tuple[int, str]:
    """The amount and unit in ``100000000:USD_MICROCENTS``, ``5000:TOKENS``, ``$1`` or ``0.5usd``.

    Raises:
        ValueError: one line that says what is wrong.
    """
    number, colon, unit = text.strip().partition(":")
    dollars = _DOLLARS.fullmatch(number)
    if dollars is not None:
        if colon and unit != DOLLAR_UNIT:
            raise ValueError(f"{text!r}: dollars are counted in {DOLLAR_UNIT}")
        exact = Decimal(dollars[1] or dollars[2]).scaleb(8)
        if exact != exact.to_integral_value():
            raise ValueError(f"{text!r}: smaller than a microcent, which is $0.00000001")
        return int(exact), DOLLAR_UNIT
    if not _WHOLE.fullmatch(number):
        raise ValueError(f"{text!r}: an amount is a whole number, or dollars like $1 or 0.50usd")
    if unit not in UNITS:
        raise ValueError(f"{text!r}: a whole number needs its unit, {number}:{'|'.join(UNITS)}")
    return int(number), unit


def show_amount(amount: int, unit: str) -> str:
    """``$1.00`` for ``USD_MICROCENTS``, with as many digits as it needs; else ``5,000 TOKENS``."""
    if unit != DOLLAR_UNIT:
        return f"{amount:,} {unit}"
    sign, (whole, rest) = "-" if amount < 0 else "", divmod(abs(amount), MICROCENTS_PER_DOLLAR)
    return f"{sign}${whole:,}.{f'{rest:08d}'.rstrip('0').ljust(2, '0')}"
