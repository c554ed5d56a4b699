"""JSON, read strictly: two readers of one body must never see two amounts."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

import jiter
import orjson

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
EXACT_FLOAT_INTEGER = 2**53
"""Up to here an integer written with a fraction or exponent is read exactly."""

# A number that may need a closer look: a fraction, an exponent, or very many digits. It also
# matches inside strings, which only costs the closer look.
_SUSPECT = re.compile(rb"[:,\[]\s*-?(?:[0-9]{19}|[0-9]+[.eE])")


# At most 15 digits and no exponent: a double gives them back as they were.
_ALWAYS_EXACT = re.compile(r"-?(?=[0-9.]{1,16}$)[0-9]+\.[0-9]+")

_SHOWN_DIGITS = 40


class JsonError(ValueError):
    """The body is not JSON, or holds a number or member that cannot be read one way only.

    Attributes:
        where: the member concerned, such as ``metadata.costs[2]``; empty for the whole body.
    """

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(f"{where}: {why}" if where else why)
        self.why = why
        self.where = where

    def below(self, place: str | int) -> JsonError:
        """The same error, seen from the object or array that holds the value."""
        member = f"[{place}]" if isinstance(place, int) else place
        joint = "." if self.where and not self.where.startswith("[") else ""
        return JsonError(self.why, f"{member}{joint}{self.where}")


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
            _check_numbers(jiter.from_json(body, allow_inf_nan=False, float_mode="lossless-float"))
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"not valid JSON: {error}") from None
    return value, suspect


def _check_numbers(value: Any) -> None:
    """Raises: JsonError that names the member, for a number that would not be kept as it is."""
    if isinstance(value, dict):
        for name, member in value.items():
            try:
                _check_numbers(member)
            except JsonError as error:
                raise error.below(name) from None
    elif isinstance(value, list):
        for index, item in enumerate(value):
            try:
                _check_numbers(item)
            except JsonError as error:
                raise error.below(index) from None
    elif isinstance(value, jiter.LosslessFloat):
        _check_float(bytes(value).decode())
    elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise JsonError(f"the integer {_shown(str(value))} is beyond 64 bits")


def _check_float(text: str) -> None:
    if _ALWAYS_EXACT.fullmatch(text):
        return
    rounded = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent beyond what even a decimal can have
        kept = False
    else:
        kept = isfinite(rounded) and exact == Decimal(repr(rounded))
    if not kept:
        raise JsonError(f"the number {_shown(text)} cannot be kept exactly")
    if rounded.is_integer() and abs(rounded) > EXACT_FLOAT_INTEGER:
        raise JsonError(f"write the integer {_shown(text)} without fraction or exponent")


def _shown(number: str) -> str:
    return number if len(number) <= _SHOWN_DIGITS else f"{number[:_SHOWN_DIGITS]}…"


def canonical(value: Any) -> bytes:
    """One form for all ways to write the same request: members sorted, no white space, integers
    exact (so not RFC 8785, whose numbers go through doubles)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def write_json(value: Any) -> bytes:
    return orjson.dumps(value)
