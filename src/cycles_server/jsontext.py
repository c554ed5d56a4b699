"""JSON, read strictly: two readers of one body must never see two amounts.

Where the contract leaves an object open, a number is kept as it was written, whatever its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

import jiter
import orjson

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
EXACT_FLOAT_INTEGER = 2**53
"""Up to here an integer written with a fraction or exponent is read exactly."""

OpenMembers = Mapping[str, Any]
"""Which members hold open objects: ``{"metadata": OPEN, "metrics": {"custom": OPEN}}``."""
OPEN: OpenMembers = {}
_CLOSED: OpenMembers = {}

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A number that may need a closer look: a fraction, an exponent, a negative zero, or very many
# digits. It also matches inside strings, which only costs the closer look. A long body gets that
# in any case: the search would cost more.
_SUSPECT = re.compile(rb"[:,\[]\s*-?(?:[0-9]{19}|[0-9]+[.eE]|(?<=-)0)")
# The same without the integers of 64 bits, and without the decimals that a double gives back
# digit for digit: at most 15 of them, no exponent, nothing that JSON writers would shorten.
_WILD = re.compile(
    rb"[:,\[]\s*-?(?:[0-9]{20}|9[2-9][0-9]{17}|(?<=-)0(?!\.)"
    rb"|(?![0-9.]{3,16}[,\]}\s])[0-9]+[.eE]"
    rb"|(?![0-9]+\.(?:0|(?!000)[0-9]*[1-9])[,\]}\s])[0-9]+[.eE])"
)
_SEARCHED_BYTES = 32_768

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_REPLACED = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")

# At most 15 digits and no exponent: a double gives them back as they were.
_ALWAYS_EXACT = re.compile(r"-?(?=[0-9.]{1,16}$)[0-9]+\.[0-9]+")
_INT64_CHARACTERS = 20
_SURELY_WRITABLE = 200
"""Objects and arrays that cannot be nested too deeply for the writer, which takes 254."""

_SHOWN_DIGITS = 40
_SHOWN_PLACE = 200


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
        member = f"[{place}]" if isinstance(place, int) else shown(place.translate(_REPLACED))
        joint = "." if self.where and not self.where.startswith("[") else ""
        return JsonError(self.why, shown(f"{member}{joint}{self.where}", _SHOWN_PLACE))


class Number(float):
    """A number that keeps its digits: compared, stored and answered as it was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


class StoredObject(dict[str, Any]):
    """A JSON object in the store, answered byte for byte. To whoever looks inside it is empty:
    it stands only where the contract leaves an object open."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


# -- reading -------------------------------------------------------------------------------------


def read_json(body: bytes, open_members: OpenMembers = _CLOSED) -> tuple[Any, bool]:
    """Parse UTF-8 JSON; also tell whether it may hold numbers with a fraction or exponent.

    A member given twice, ``NaN``, ``Infinity`` and a number beyond a double are errors. Below
    ``open_members`` every other number is taken and keeps its digits, and half of a surrogate
    pair becomes U+FFFD; elsewhere these, a number beyond int64, and a fraction that a double
    cannot keep are errors too. Nothing is ever rounded.

    Raises:
        JsonError: with a sentence that says what is wrong and where.
    """
    failure: ValueError | None = None
    if len(body) <= _SEARCHED_BYTES:
        try:
            value = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
            suspect = _SUSPECT.search(body)
            if suspect is None:
                return value, False
            if _WILD.search(body, suspect.start()) is None:
                return value, True
        except ValueError as error:
            # jiter refuses half of a surrogate pair, and an integer of thousands of digits.
            failure = error
    try:
        value = _AS_WRITTEN.decode(body.decode())
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonError(f"not valid JSON: {failure or error}") from None
    return _settled(value, open_members, _HALF_A_PAIR.search(body) is not None), True


def _integer(text: str) -> int | Number:
    if len(text) <= _INT64_CHARACTERS and text != "-0":
        number = int(text)
        if INT64_MIN <= number <= INT64_MAX:
            return number
    return Number(text)


def _no_number(text: str) -> Any:
    raise JsonError(f"not valid JSON: {text} is no number")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(members)
    if len(read) < len(members):
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                raise _given_twice(name)
            seen.add(name)
    return read


def _given_twice(name: str) -> JsonError:
    return JsonError(f"duplicate member {shown(name.translate(_REPLACED))}")


_AS_WRITTEN = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=Number,
    parse_int=_integer,
    parse_constant=_no_number,
)


def _settled(value: Any, inside: OpenMembers, halves: bool) -> Any:
    """A value as the rest of the server may see it: a :class:`Number` or a repaired text only
    where the object is open.

    Args:
        inside: what is open below; ``OPEN`` where all is.
        halves: whether texts may hold half of a surrogate pair.
    """
    is_open = inside is OPEN
    if isinstance(value, dict):
        settled = {}
        for name, member in value.items():
            below = OPEN if is_open else inside.get(name, _CLOSED)
            if not is_open and not isinstance(member, dict | list):
                below = _CLOSED  # it stands in the place of an open object, not in one
            try:
                kept = _text(name, is_open) if halves else name
                if kept in settled:
                    raise _given_twice(name)
                settled[kept] = _settled(member, below, halves)
            except JsonError as error:
                raise error.below(name) from None
        return settled
    if isinstance(value, list):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(_settled(item, OPEN if is_open else _CLOSED, halves))
            except JsonError as error:
                raise error.below(index) from None
        return items
    if isinstance(value, Number):
        if not isfinite(value):
            raise JsonError(f"the number {shown(value.text)} is beyond what a double can hold")
        return value if is_open else _plain(value)
    if halves and isinstance(value, str):
        return _text(value, is_open)
    return value


def _text(text: str, is_open: bool) -> str:
    repaired = text if text.isascii() else text.translate(_REPLACED)
    if repaired != text and not is_open:
        raise JsonError("the text holds half of a surrogate pair")
    return repaired


def _plain(number: Number) -> int | float:
    """Raises: JsonError if the number would not be kept as it is."""
    text = number.text
    if text.lstrip("-").isdigit():
        if number:
            raise JsonError(f"the integer {shown(text)} is beyond 64 bits")
        return 0
    rounded = float(number)
    if _ALWAYS_EXACT.fullmatch(text):
        return rounded
    try:
        kept = Decimal(text) == Decimal(repr(rounded))
    except InvalidOperation:  # an exponent beyond what even a decimal can have
        kept = False
    if not kept:
        raise JsonError(f"the number {shown(text)} cannot be kept exactly")
    if rounded.is_integer() and abs(rounded) > EXACT_FLOAT_INTEGER:
        raise JsonError(f"write the integer {shown(text)} without fraction or exponent")
    return rounded


def with_plain_numbers(value: Any) -> Any:
    """The same value with an ordinary float for each :class:`Number`, for readers that know the
    basic types only. Its digits may change: good for messages, not for storing or answering."""
    if isinstance(value, Number):
        return float(value)
    if isinstance(value, dict):
        return {name: with_plain_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [with_plain_numbers(item) for item in value]
    return value


def stored_object(text: bytes) -> StoredObject | None:
    """An open object as it lies in the store; None for a stored ``null``.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Another server may have kept a number that this reader cannot hold.
        value = _AS_WRITTEN.decode(text.decode())
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return StoredObject(text)


def stored_members(text: bytes) -> dict[str, Any]:
    """The members of a record in the store, each number as it was written.

    Raises:
        ValueError: it is no JSON object, or one that could be read and never be written again.
    """
    try:
        value = _AS_WRITTEN.decode(text.decode())
        if _HALF_A_PAIR.search(text) or text.count(b"{") + text.count(b"[") > _SURELY_WRITABLE:
            write_json([[value]])  # as deep as it may stand in an answer
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


# -- writing -------------------------------------------------------------------------------------

_SORTED = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_SORT_KEYS


def canonical(value: Any) -> bytes:
    """One form for all ways to write the same request: members sorted, no white space, integers
    exact, every other number as it was written (so not RFC 8785, whose numbers go through
    doubles)."""
    return orjson.dumps(value, _as_it_was, _SORTED)


def write_json(value: Any) -> bytes:
    """JSON of plain values, :class:`Number` and :class:`StoredObject`."""
    return orjson.dumps(value, _as_it_was, orjson.OPT_PASSTHROUGH_SUBCLASS)


def _as_it_was(value: Any) -> orjson.Fragment:
    if isinstance(value, Number | StoredObject):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} is no JSON")


def shown(text: str, length: int = _SHOWN_DIGITS) -> str:
    """A text for a message, cut off where it is longer."""
    return text if len(text) <= length else f"{text[:length]}…"
