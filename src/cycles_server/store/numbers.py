"""Whole numbers as records hold them."""

from __future__ import annotations

_LONGEST = 20
"""Characters of the longest int64 with its sign."""


def stored_integer(text: bytes | str) -> int:
    """A number that the scripts read as one (``lua/lib/amounts.lua``), and no other.

    ``int`` alone would take ``1_0``, `` 5`` and the digits of other scripts: a server that shows
    one amount and reckons with none.

    Raises:
        ValueError: it is none.
    """
    digits = text if isinstance(text, bytes) else text.encode(errors="replace")
    if len(digits) > _LONGEST or not digits.removeprefix(b"-").isdigit():
        raise ValueError(f"not an integer: {text!r}")
    return int(digits)
