"""Windows of time in a query: RFC 3339 date-times, both ends inclusive, in epoch milliseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from cycles_server.refusal import invalid

_DATE_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?"
    r"(?:[Zz]|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)
_EPOCH = date(1970, 1, 1).toordinal()
_YEARS_400 = 146_097
"""Days of 400 years, after which the calendar repeats."""
_LAST_MINUTE = 23 * 60 + 59


class Moment(NamedTuple):
    """An instant: its epoch ms, and the digits below a millisecond without closing zeros.

    Two moments compare as the instants do.
    """

    ms: int
    below: str


@dataclass(frozen=True, slots=True)
class Window:
    """An inclusive range of epoch ms; an end that is None is open."""

    lower: int | None = None
    upper: int | None = None

    @property
    def is_open(self) -> bool:
        return self.lower is None and self.upper is None

    @property
    def bounds(self) -> list[int | None]:
        """Both ends, as a JSON value."""
        return [self.lower, self.upper]

    def admits(self, ms: int | None) -> bool:
        """Whether a value lies inside; a row without the value lies in the open window only."""
        if ms is None:
            return self.is_open
        return (self.lower is None or self.lower <= ms) and (self.upper is None or ms <= self.upper)


def read_window(query: Mapping[str, Any], lower_name: str, upper_name: str) -> Window:
    """The window between two query parameters; a blank one counts as not given.

    Stored times have milliseconds: of a finer bound the next ms inside the window counts.

    Raises:
        Refusal: 400 for a bound that is no date-time, or a lower one after the upper one
            (contract: listReservations, time windows).
    """
    lower = read_bound(query, lower_name)
    upper = read_bound(query, upper_name)
    if lower is not None and upper is not None and lower > upper:
        raise invalid(lower_name, f"must not be later than {upper_name}")
    return Window(
        None if lower is None else lower.ms + bool(lower.below),
        None if upper is None else upper.ms,
    )


def read_bound(query: Mapping[str, Any], name: str) -> Moment | None:
    """One end of a window; None for none or a blank one.

    Raises:
        Refusal: 400 for what is no date-time.
    """
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return read_moment(text)
    except ValueError:
        raise invalid(name, "must be an RFC 3339 date-time like 2026-04-10T12:00:00Z") from None


def read_moment(text: str) -> Moment:
    """Read an RFC 3339 date-time.

    Raises:
        ValueError: it is none.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a date-time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign = match[7] or "", match[8]
    offset_hour, offset_minute = int(match[9] or 0), int(match[10] or 0)
    if hour > 23 or minute > 59 or offset_hour > 23 or offset_minute > 59:
        raise ValueError("no such time of day")
    offset = (offset_hour * 60 + offset_minute) * (-1 if sign == "-" else 1)
    minutes = hour * 60 + minute - offset
    # A leap second closes a day of UTC; epoch time has no name for it but the next second's.
    if second > 60 or (second == 60 and minutes % 1440 != _LAST_MINUTE):
        raise ValueError("no such second")
    # Python's calendar begins with year 1, RFC 3339's with year 0.
    days = date(year or 400, month, day).toordinal() - _EPOCH - (0 if year else _YEARS_400)
    seconds = days * 86_400 + minutes * 60 + second
    return Moment(
        seconds * 1000 + int(fraction[:3].ljust(3, "0")),
        fraction[3:].rstrip("0"),
    )
