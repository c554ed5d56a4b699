"""JSON, read strictly: two readers of one body must never see two amounts."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import jiter
import orjson

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
EXACT_FLOAT_INTEGER = 2**53
"""Up to here an integer written with a fraction or exponent is read exactly."""

# A number that may need a closer look: a fraction, an exponent, or very many digits. It also
# matches inside strings, which only costs the closer look.
_SUSPECT = re.compile(rb"[0-9](?:[.eE][0-9+-]|[0-9]{18})")


class JsonError(ValueError):
    """The body is not JSON, or holds a number or member that cannot be read one way only."""


def read_json(body: bytes) -> tuple[Any, bool]:
    """Parse UTF-8 JSON; also tell whether it may hold numbers with a fraction or exponent.

    A member given twice, ``NaN``, ``Infinity``, a number beyond a double or beyond int64, and a
    fraction that a double cannot keep are errors, never rounded.

    Raises:
        JsonError: with a sentence that says what is wrong and where.
    """
    try:
        value = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
        suspect = _SUSPECT.search(body) is not None
        if suspect:
            _check_numbers(
                jiter.from_json(body, allow_inf_nan=False, float_mode="lossless-float"), ""
            )
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"not valid JSON: {error}") from None
    return value, suspect


def _check_numbers(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _check_numbers(member, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_numbers(item, f"{where}[{index}]")
    elif isinstance(value, jiter.LosslessFloat):
        text = bytes(value).decode()
        rounded = float(text)
        exact = Decimal(text)
        if rounded in (float("inf"), float("-inf")) or exact != Decimal(repr(rounded)):
            raise JsonError(f"{where}: the number {text} cannot be kept exactly")
        if rounded.is_integer() and abs(exact) > EXACT_FLOAT_INTEGER:
            raise JsonError(f"{where}: write the integer {text} without fraction or exponent")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not INT64_MIN <= value <= INT64_MAX:
            raise JsonError(f"{where}: the integer {value} is beyond 64 bits")


def canonical(value: Any) -> bytes:
    """One form for all ways to write the same request: members sorted, no white space, integers
    exact (so not RFC 8785, whose numbers go through doubles)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def write_json(value: Any) -> bytes:
    return orjson.dumps(value)
