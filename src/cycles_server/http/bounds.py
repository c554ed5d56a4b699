"""What a body may hold, found out before anything is made of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, islice

import jiter

from cycles_server.jsontext import JsonError

_BRACKET = re.compile(rb"[\[\]{}]")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEPS.keys())
_WHITE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """The most that a JSON body may hold.

    Attributes:
        values: members of objects and elements of arrays, at any depth, together.
        depth: objects and arrays inside each other, the body included.
    """

    values: int
    depth: int

    def check(self, body: bytes) -> None:
        """Look at the commas and brackets alone; an ordinary body costs two counts.

        Raises:
            JsonError: the body holds more; names the object or array that goes too far. Also
                for a body that is no JSON up to there.
        """
        opened = body.count(b"{") + body.count(b"[")
        # Each value takes two bytes at least, or opens what the depth is counted by.
        few = 2 * self.values >= len(body) or opened + body.count(b",") <= self.values
        if few and opened <= self.depth:
            return
        skeleton = self._skeleton(body)
        too_many = _values(skeleton) > self.values
        if too_many:
            skeleton = skeleton[: self._too_many_at(skeleton)]
        steps = map(_STEPS.__getitem__, skeleton.translate(None, _NO_BRACKETS))
        depths = list(accumulate(steps, initial=0))
        if max(depths) > self.depth:
            first = next(place for place, depth in enumerate(depths) if depth > self.depth)
            brackets = _BRACKET.finditer(skeleton)
            end = next(islice(brackets, first - 1, None)).end()
            where = _place(body[:end], depths[first])
            raise JsonError(f"nested more than {self.depth} levels deep", where)
        if too_many:
            where = _place(body[: len(skeleton)], depths[-1])
            raise JsonError(f"more than {self.values} members and elements in one body", where)

    def _skeleton(self, body: bytes) -> bytes:
        """The body with blanks for what its strings hold, byte for byte in the same places.

        It ends early where there are more strings than values allow.
        """
        most_quotes = 4 * self.values + 4
        plain = body.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        pieces = plain.split(b'"', most_quotes)
        if len(pieces) > most_quotes:
            pieces.pop()
        pieces[1::2] = [b" " * len(piece) for piece in pieces[1::2]]
        return b'"'.join(pieces)

    def _too_many_at(self, skeleton: bytes) -> int:
        """Where the value that is one too many begins."""
        low, high = 0, len(skeleton)
        before = 0
        while high - low > 1:
            middle = (low + high) // 2
            between = _values(skeleton[low:middle])
            if before + between > self.values:
                high = middle
            else:
                low, before = middle, before + between
        return high


def _values(skeleton: bytes) -> int:
    """As many as there are commas, and one more in each object or array that is not empty."""
    dense = skeleton.translate(None, _WHITE)
    opened = dense.count(b"{") + dense.count(b"[")
    return dense.count(b",") + opened - dense.count(b"{}") - dense.count(b"[]")


def _place(begun: bytes, depth: int) -> str:
    """Which object or array is open at the end of a body that has only begun."""
    try:
        value = jiter.from_json(begun, partial_mode=True)
    except ValueError as error:
        raise JsonError(f"not valid JSON: {error}") from None
    path: list[str | int] = []
    for _ in range(depth - 1):
        if isinstance(value, dict) and value:
            name, value = list(value.items())[-1]
            path.append(name)
        elif isinstance(value, list) and value:
            path.append(len(value) - 1)
            value = value[-1]
    place = JsonError("")
    for step in reversed(path):
        place = place.below(step)
    return place.where
